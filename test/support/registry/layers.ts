import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, digestOf, parseDigest } from '../../../shared/ids.ts';

/** Content of one blob: in memory where it is small, else a file that is read as it is served. */
export type BlobSource =
  | { readonly digest: Digest; readonly size: number; readonly bytes: Uint8Array }
  | { readonly digest: Digest; readonly size: number; readonly path: string };

const CHUNK_BYTES = 1024 * 1024;
const IN_MEMORY_BYTES = 256 * 1024;
const TAR_BLOCK = 512;
/** Grows with the layout of the generated files, so that an older cache is not taken for the new one. */
const CACHE_VERSION = 1;

/** Where generated layers are kept between runs. */
export function defaultLayerCache(): string {
  return join(tmpdir(), `tidepool-sample-layers-${process.getuid?.() ?? 0}`);
}

/** Incompressible bytes, the same for the same seed, at the speed of the processor's AES. */
function randomStream(seed: number): (length: number) => Buffer {
  const key = createHash('sha256').update(`tidepool sample ${seed}`).digest().subarray(0, 16);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK_BYTES);
  return (length) => cipher.update(zeros.subarray(0, length));
}

/** The bytes of a layer, chunk by chunk: a tar of one file, so that a real runtime can unpack it; too small for that, bare random. */
function* layerChunks(bytes: number, seed: number): Generator<Buffer> {
  const random = randomStream(seed);
  const content = bytes < 4 * TAR_BLOCK ? bytes : Math.floor((bytes - 3 * TAR_BLOCK) / TAR_BLOCK) * TAR_BLOCK;
  let left = bytes;
  if (content < bytes) {
    yield tarHeader(`sample-${seed}.bin`, content);
    left -= TAR_BLOCK;
  }
  for (let rest = content; rest > 0; rest -= Math.min(rest, CHUNK_BYTES)) {
    yield random(Math.min(rest, CHUNK_BYTES));
  }
  left -= content;
  if (left > 0) yield Buffer.alloc(left);
}

function tarHeader(name: string, size: number): Buffer {
  const header = Buffer.alloc(TAR_BLOCK);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;
  header.write(name, 0, 'ascii');
  header.write(octal(0o644, 8), 100, 'ascii');
  header.write(octal(0, 8), 108, 'ascii');
  header.write(octal(0, 8), 116, 'ascii');
  header.write(octal(size, 12), 124, 'ascii');
  header.write(octal(0, 12), 136, 'ascii');
  header.write('        0', 148, 'ascii');
  header.write('ustar\x0000', 257, 'ascii');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'ascii');
  return header;
}

/** A layer of exactly `bytes` bytes; generated once and kept in `cacheDir` where it is large. */
export async function generateLayer(
  init: { bytes: number; seed: number },
  cacheDir: string = defaultLayerCache(),
): Promise<BlobSource> {
  if (init.bytes <= IN_MEMORY_BYTES) return blobOf(Buffer.concat([...layerChunks(init.bytes, init.seed)]));
  await mkdir(cacheDir, { recursive: true });
  const path = join(cacheDir, `v${CACHE_VERSION}-${init.seed}-${init.bytes}`);
  const known = await cachedDigest(path, init.bytes);
  if (known !== undefined) return { digest: known, size: init.bytes, path };
  const partial = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}`;
  const hash = createHash('sha256');
  const file = await open(partial, 'wx');
  try {
    for (const chunk of layerChunks(init.bytes, init.seed)) {
      hash.update(chunk);
      await file.write(chunk);
    }
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  const digest = parseDigest(`sha256:${hash.digest('hex')}`);
  // The digest's file comes last and stands for a whole layer, so a run that was killed leaves nothing that is believed.
  await rename(partial, path);
  await writeFile(`${partial}.digest`, digest);
  await rename(`${partial}.digest`, `${path}.digest`);
  return { digest, size: init.bytes, path };
}

async function cachedDigest(path: string, bytes: number): Promise<Digest | undefined> {
  try {
    const digest = parseDigest(await readFile(`${path}.digest`, 'utf8'));
    return (await stat(path)).size === bytes ? digest : undefined;
  } catch {
    // Not there, or not whole: it is made again.
    return undefined;
  }
}

export function blobOf(bytes: Uint8Array): BlobSource {
  return { digest: digestOf(bytes), size: bytes.length, bytes };
}
