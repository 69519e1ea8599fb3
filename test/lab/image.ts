/** Sample images as OCI layouts: seeded random bytes in real tar layers, and a busybox so that they run. */
import { createCipheriv, createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
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
import { type TarEntry, tar } from './tar.ts';

export interface ImageRecipe {
  readonly name: string;
  /** Bytes of each layer, before gzip adds its few. */
  readonly layers: readonly number[];
  /** A static busybox in the first layer, beside its bytes. */
  readonly runnable?: boolean;
  /** Another platform beside the machine's own, in an index. */
  readonly multiArch?: boolean;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string; readonly os: string };
}

/** An image as a node should have it: what `reference` resolves to and every blob of the machine's own platform. */
export interface SampleImage {
  readonly name: string;
  /** Directory of the OCI layout; its tag is `v1`. */
  readonly layout: string;
  /** What the tag points at: the manifest, or the index of a multi-arch image. */
  readonly digest: string;
  /** The platform's manifest. */
  readonly manifest: string;
  /** Config and layers, in the manifest's order. */
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  /** Bytes of config and layers. */
  readonly bytes: number;
  readonly runnable: boolean;
  /** Layers of other platforms, which no node here should fetch; manifest and config containerd 2.x fetches of all. */
  readonly foreign: readonly string[];
}

const MB = 1_000_000;
/** Grows when the same recipe gives other files. */
const FORMAT = 2;
const KEY_BYTES = 16;
const CHUNK = 1 << 20;
const ARCHITECTURE = arch() === 'x64' ? 'amd64' : arch();
const OTHER_ARCHITECTURE = ARCHITECTURE === 'arm64' ? 'amd64' : 'arm64';
const BUSYBOX = '/bin/busybox';
const TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

/** Layers are uneven on purpose, as real ones are. */
export const RECIPES = {
  large: { name: 'large', layers: [19 * MB, 60 * MB, 120 * MB], runnable: true },
  medium: { name: 'medium', layers: [8 * MB, 16 * MB, 40 * MB], runnable: true },
  small: { name: 'small', layers: [1 * MB, 2 * MB, 5 * MB], runnable: true },
  tiny: { name: 'tiny', layers: [200_000, 300_000, 500_000] },
  multi: { name: 'multi', layers: [2 * MB, 6 * MB], runnable: true, multiArch: true },
} as const satisfies Record<string, ImageRecipe>;

/** Builds an image, or finds it built in `cache` before. */
export async function buildImage(recipe: ImageRecipe, cache: string): Promise<SampleImage> {
  const id = createHash('sha256')
    .update(JSON.stringify([FORMAT, recipe, ARCHITECTURE, statSync(BUSYBOX).size, process.versions.zlib]))
    .digest('hex')
    .slice(0, 12);
  const layout = join(cache, `${recipe.name}-${id}`);
  const summary = join(layout, 'lab.json');
  if (!existsSync(summary)) {
    const draft = `${layout}.${process.pid}`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(join(draft, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(draft, 'lab.json'), JSON.stringify(await writeLayout(recipe, draft)));
    rmSync(layout, { recursive: true, force: true });
    renameSync(draft, layout);
  }
  return { ...parseSummary(readFileSync(summary, 'utf8')), layout };
}

async function writeLayout(recipe: ImageRecipe, layout: string): Promise<Omit<SampleImage, 'layout'>> {
  const own = await writePlatform(recipe, layout, ARCHITECTURE);
  const other =
    recipe.multiArch === true ? await writePlatform(recipe, layout, OTHER_ARCHITECTURE) : undefined;
  const top =
    other === undefined
      ? own.manifest
      : writeJson(layout, TYPES.index, {
          schemaVersion: 2,
          mediaType: TYPES.index,
          manifests: [other.manifest, own.manifest],
        });
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const { platform: _, ...bare } = top;
  const entry = { ...bare, annotations: { 'org.opencontainers.image.ref.name': 'v1' } };
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  return {
    name: recipe.name,
    digest: top.digest,
    manifest: own.manifest.digest,
    blobs: own.blobs,
    bytes: own.blobs.reduce((sum, blob) => sum + blob.size, 0),
    runnable: recipe.runnable ?? false,
    foreign: other === undefined ? [] : other.blobs.slice(1).map((blob) => blob.digest),
  };
}

async function writePlatform(
  recipe: ImageRecipe,
  layout: string,
  architecture: string,
): Promise<{ manifest: Descriptor; blobs: { digest: string; size: number }[] }> {
  const layers: Descriptor[] = [];
  const diffIds: string[] = [];
  for (const [index, size] of recipe.layers.entries()) {
    const seed = `${recipe.name}/${architecture}/${index}`;
    const entries: TarEntry[] = [
      { path: 'data/', type: 'directory' },
      { path: `data/layer-${index}.bin`, type: 'file', size, content: () => randomBytes(seed, size) },
    ];
    if (index === 0 && recipe.runnable === true) entries.unshift(...busyboxEntries());
    const { descriptor, diffId } = await writeLayer(layout, entries);
    layers.push(descriptor);
    diffIds.push(diffId);
  }
  const config = writeJson(layout, TYPES.config, {
    architecture,
    os: 'linux',
    config: { Cmd: ['/bin/busybox', 'true'], Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  });
  const manifest = writeJson(layout, TYPES.manifest, {
    schemaVersion: 2,
    mediaType: TYPES.manifest,
    config,
    layers,
  });
  return {
    manifest: { ...manifest, platform: { architecture, os: 'linux' } },
    blobs: [config, ...layers].map(({ digest, size }) => ({ digest, size })),
  };
}

function busyboxEntries(): TarEntry[] {
  return [
    { path: 'bin/', type: 'directory' },
    {
      path: 'bin/busybox',
      type: 'file',
      mode: 0o755,
      size: statSync(BUSYBOX).size,
      content: () => createReadStream(BUSYBOX),
    },
    { path: 'bin/sh', type: 'symlink', linkTo: 'busybox' },
    { path: 'bin/sha256sum', type: 'symlink', linkTo: 'busybox' },
  ];
}

/** Bytes that no gzip makes smaller and that are the same in every run: the key stream of AES-CTR. */
async function* randomBytes(seed: string, size: number): AsyncGenerator<Uint8Array> {
  const key = createHash('sha256').update(seed).digest().subarray(0, KEY_BYTES);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(KEY_BYTES));
  const zeros = Buffer.alloc(CHUNK);
  for (let left = size; left > 0; left -= CHUNK)
    yield cipher.update(zeros.subarray(0, Math.min(left, CHUNK)));
}

async function writeLayer(
  layout: string,
  entries: readonly TarEntry[],
): Promise<{ descriptor: Descriptor; diffId: string }> {
  const draft = join(layout, 'layer.tmp');
  const plain = createHash('sha256');
  const packed = createHash('sha256');
  let size = 0;
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
        size += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(draft),
  );
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

function parseSummary(text: string): Omit<SampleImage, 'layout'> {
  return JSON.parse(text) as Omit<SampleImage, 'layout'>;
}
