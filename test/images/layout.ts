import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type TarEntry, tar } from '../lab/tar.ts';

/** A file of an image: from where, or what is in it. */
export interface ImageFile {
  /** Absolute, in the image. */
  readonly path: string;
  readonly mode?: number;
  readonly from: { readonly file: string } | { readonly text: string };
}

export interface ImageContents {
  readonly tag: string;
  /** A layer each, the least often changed first. */
  readonly layers: readonly (readonly ImageFile[])[];
  readonly entrypoint: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const TYPES = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;
/** What a ustar header has room for. */
const MAX_PATH = 100;

/**
 * Writes an OCI layout of one image of this machine's platform; the answer is the manifest's digest. The same contents
 * give the same digest: owner root, time zero, sorted names.
 */
export async function writeImage(layout: string, contents: ImageContents): Promise<string> {
  rmSync(layout, { recursive: true, force: true });
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  const layers: Descriptor[] = [];
  const diffIds: string[] = [];
  for (const files of contents.layers) {
    const { descriptor, diffId } = await writeLayer(layout, entriesOf(files));
    layers.push(descriptor);
    diffIds.push(diffId);
  }
  const config = writeJson(layout, TYPES.config, {
    architecture: arch() === 'x64' ? 'amd64' : arch(),
    os: 'linux',
    config: {
      User: contents.user,
      WorkingDir: contents.workingDir,
      Entrypoint: contents.entrypoint,
      Env: ['PATH=/nodejs/bin', 'NODE_ENV=production'],
      Labels: contents.labels,
    },
    rootfs: { type: 'layers', diff_ids: diffIds },
  });
  const manifest = writeJson(layout, TYPES.manifest, {
    schemaVersion: 2,
    mediaType: TYPES.manifest,
    config,
    layers,
  });
  const entry = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': contents.tag } };
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  return manifest.digest;
}

/** Files with the directories above them, each once and before what is in it. */
function entriesOf(files: readonly ImageFile[]): TarEntry[] {
  const directories = new Set<string>();
  for (const { path } of files) {
    const parts = path.slice(1).split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++)
      directories.add(`${parts.slice(0, depth).join('/')}/`);
  }
  const entries: TarEntry[] = [...directories].map((path) => ({ path, type: 'directory' }));
  for (const { path, mode, from } of files) {
    const bytes = 'text' in from ? Buffer.from(from.text) : undefined;
    entries.push({
      path: path.slice(1),
      type: 'file',
      mode: mode ?? 0o644,
      size: bytes?.length ?? ('file' in from ? statSync(from.file).size : 0),
      content: () =>
        'file' in from ? createReadStream(from.file) : Readable.from([bytes ?? Buffer.alloc(0)]),
    });
  }
  for (const { path } of entries)
    if (path.length > MAX_PATH) throw new Error(`too long for a tar header: ${path}`);
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function writeLayer(
  layout: string,
  entries: readonly TarEntry[],
): Promise<{ descriptor: Descriptor; diffId: string }> {
  const draft = join(layout, 'layer.tmp');
  const plain = createHash('sha256');
  const packed = createHash('sha256');
  await pipeline(
    Readable.from(tar(entries), { objectMode: false }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        plain.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: 1 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        packed.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(draft),
  );
  const { size } = statSync(draft);
  const hex = packed.digest('hex');
  renameSync(draft, join(layout, 'blobs/sha256', hex));
  return {
    descriptor: { mediaType: TYPES.layer, digest: `sha256:${hex}`, size },
    diffId: `sha256:${plain.digest('hex')}`,
  };
}

function writeJson(layout: string, mediaType: string, value: unknown): Descriptor {
  const bytes = Buffer.from(JSON.stringify(value));
  const hex = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(layout, 'blobs/sha256', hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}
