/** Bundles made in memory, and an importer over a real store and index. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { signBundle } from '../../cloud/bundles/sign-bundle.ts';
import { BundleImporter } from '../../edge/bundles/importer.ts';
import { NameBook } from '../../edge/bundles/name-book.ts';
import type { Imported, ImportInit } from '../../edge/bundles/types.ts';
import { ContentScope } from '../../edge/transfer/access/content-scope.ts';
import { ImageWords, type WordTrust } from '../../edge/transfer/image-words.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseNodeName } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { silentLogger } from '../../shared/log.ts';
import { isManifestType } from '../../shared/oci-layout/media-types.ts';
import type { Statement } from '../../shared/oci-layout/statement.ts';
import { readStatementFile, unsignedStatement } from '../../shared/oci-layout/statement-file.ts';
import { bundleTar } from '../../shared/oci-layout/write-bundle.ts';
import { type Platform, parsePlatform } from '../../shared/registry/platform.ts';
import { readRoots } from '../../shared/trust/certificate.ts';
import { NO_EVENTS } from '../../shared/wire/events.ts';
import type { SampleImage } from './registry/index.ts';
import { type OpenStore, openStore } from './store-fixture.ts';
import type { TestAuthority } from './trust.ts';

export const AMD: Platform = parsePlatform('linux/amd64');
const DAY_MS = 86_400_000;

/** What a bundle of these images says, everything in it. */
export function statementOf(images: Readonly<Record<string, SampleImage>>): Statement {
  const all = Object.values(images);
  const manifests = new Map(all.flatMap((image) => image.manifests).map((each) => [each.digest, each]));
  const blobs = new Map(all.flatMap((image) => image.blobs).map((each) => [each.digest, each]));
  return {
    version: 1,
    platforms: ['linux/amd64'],
    images: Object.entries(images).map(([name, { digest, mediaType, size, platform }]) => {
      const { registry, repository, tag } = parseImageRef(name);
      return {
        registry,
        repository,
        ...(tag === undefined ? {} : { tag }),
        digest,
        mediaType: typed(mediaType),
        size,
        ...(platform === undefined ? {} : { platform: `${platform.os}/${platform.architecture}` }),
        open: true,
      };
    }),
    manifests: [...manifests.values()].map(({ digest, size, mediaType }) => {
      return { digest, size, mediaType: typed(mediaType) };
    }),
    blobs: [...blobs.values()].map(({ digest, size }) => ({ digest, size })),
    leftOut: [],
  };
}

function typed(mediaType: string): Statement['manifests'][number]['mediaType'] {
  if (!isManifestType(mediaType)) throw new Error(`no manifest: ${mediaType}`);
  return mediaType;
}

/** The bundle's first file, as the hub makes it. */
export async function signed(
  said: Statement,
  authority: TestAuthority,
  { now = Date.now(), lifetimeMs = 30 * DAY_MS }: { now?: number; lifetimeMs?: number } = {},
): Promise<Buffer> {
  const [root] = readRoots(authority.root.cert);
  if (root === undefined) throw new Error('an authority without a root');
  const notAfter = now + 3_000 * DAY_MS;
  const hubIssuer = { ...root, ...authority.root, notAfter };
  const statement = unsignedStatement(said);
  return (await signBundle({ authority: { hubIssuer } }, { statement, lifetimeMs, now })).file;
}

/** All bytes of a bundle with this first file; what is not among the images' content has to be given. */
export async function bundleOf(
  first: Uint8Array,
  images: readonly SampleImage[],
  more: ReadonlyMap<string, Uint8Array> = new Map(),
): Promise<Buffer> {
  const manifests = new Map(
    images.flatMap((image) => image.manifests).map((each) => [each.digest, each.bytes]),
  );
  const blobs = new Map(images.flatMap((image) => image.blobs).map((each) => [each.digest, each]));
  const chunks: Uint8Array[] = [];
  const tar = bundleTar(readStatementFile(first), {
    manifest: (digest) => manifests.get(digest) ?? more.get(digest),
    blob: async function* ({ digest }) {
      const known = blobs.get(digest);
      if (known === undefined) yield more.get(digest) ?? new Uint8Array();
      else yield 'path' in known ? readFileSync(known.path) : known.bytes;
    },
  });
  for await (const chunk of tar) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export interface TestImporter {
  readonly importer: BundleImporter;
  readonly opened: OpenStore;
  readonly words: ImageWords;
  /** Bytes that the store may grow by. */
  room: number;
  /** Of the base of a differential bundle: what the pool has. */
  readonly inPool: Set<Digest>;
  import(bytes: Uint8Array | AsyncIterable<Uint8Array>, init?: Partial<ImportInit>): Promise<Imported>;
  /** All that is known here, and the files: nothing may change in it when a bundle is refused. */
  all(): unknown;
}

/** @param trust undefined: an agent that runs with --insecure */
export async function openImporter(
  directory: string,
  trust: WordTrust | undefined,
  platform: Platform = AMD,
): Promise<TestImporter> {
  const opened = await openStore(directory);
  const { index, store, clock } = opened;
  const words = new ImageWords({ documents: index.documents, trust });
  const scope = new ContentScope({ table: index.scope });
  const inPool = new Set<Digest>();
  const test: TestImporter = {
    opened,
    words,
    inPool,
    room: 1e12,
    importer: new BundleImporter(
      {
        store,
        documents: index.documents,
        provenance: index.provenance,
        names: new NameBook({
          index,
          store,
          manifests: {
            keep: (name, record) => {
              index.manifests.put(record);
              scope.addManifest(name, record);
              return record;
            },
          },
          provenance: { prove: () => undefined },
          words,
          trust,
          clock,
        }),
        words,
        trust: trust && { ...trust, learnTime: () => undefined },
        heldInPool: async (digests) => new Set(digests.filter((digest) => inPool.has(digest))),
        room: async () => test.room,
        active: () => false,
        events: NO_EVENTS,
        log: silentLogger(),
      },
      { self: parseNodeName('node-a'), platform },
    ),
    import: (bytes, init = {}) =>
      test.importer.take(bytes instanceof Uint8Array ? inChunks(bytes) : bytes, {
        unsigned: false,
        anyPlatform: false,
        check: false,
        signal: new AbortController().signal,
        onProgress: () => undefined,
        ...init,
      }),
    all: () => everything(directory),
  };
  return test;
}

/** In pieces that fit no border of the file. */
export async function* inChunks(bytes: Uint8Array, length = 60_001): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const TABLES = [
  'manifests',
  'sizes',
  'tags',
  'documents',
  'claims',
  'repositories',
  'content_scope',
  'provenance',
];

function everything(directory: string): unknown {
  const database = new Database(join(directory, 'index.db'), { readonly: true });
  try {
    const tables = TABLES.map((table) => database.prepare(`SELECT * FROM ${table}`).all());
    const blobs = database.prepare('SELECT key, size, held_bytes, whole FROM blobs ORDER BY key').all();
    const files = readdirSync(join(directory, 'blobs'), { recursive: true, withFileTypes: true });
    return [
      tables,
      blobs,
      files
        .filter((file) => file.isFile())
        .map(({ name }) => name)
        .sort(),
    ];
  } finally {
    database.close();
  }
}
