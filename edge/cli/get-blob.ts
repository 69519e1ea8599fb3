import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Agent, request } from 'undici';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { type Digest, parseDigest } from '../../shared/ids.ts';
import { type ImageRef, parseImageRef } from '../../shared/image-ref.ts';
import { formatBytes } from '../../shared/units.ts';
import { type AdminFlags, adminClient } from './admin.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { accountOf } from './pull.ts';

export interface GetBlobFlags extends AdminFlags {
  readonly user?: string;
  readonly output: string;
}

/** What is read of an answer that is an error. */
const MAX_ERROR_BYTES = 64 * 1024;

/** Brings one blob of an image to a file, by the same way as a runtime gets it. The file appears whole or not at all. */
export async function getBlobCommand(
  io: CliIo,
  imageText: string,
  digestText: string,
  flags: GetBlobFlags,
): Promise<ExitCode> {
  const image = parseImageRef(imageText);
  const digest = parseDigest(digestText);
  accountOf(flags.user);
  const mirror = await mirrorOf(io, flags);
  const temporary = join(dirname(flags.output), `.${basename(flags.output)}.${process.pid}.tmp`);
  try {
    const bytes = await fetchBlob(io, blobUrl(mirror, image, digest), digest, temporary, flags.user);
    await rename(temporary, flags.output);
    io.stderr.write(`${flags.output}: ${formatBytes(bytes)}, ${digest}\n`);
    return EXIT.ok;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function mirrorOf(io: CliIo, flags: GetBlobFlags): Promise<string> {
  // By its socket: an account is sent to where the answer says.
  const client = await adminClient(io, flags);
  try {
    return (await client.status()).mirror;
  } finally {
    await client.close();
  }
}

function blobUrl(mirror: string, image: ImageRef, digest: Digest): string {
  return `http://${mirror}/v2/${image.repository}/blobs/${digest}?ns=${encodeURIComponent(image.registry)}`;
}

async function fetchBlob(
  io: CliIo,
  url: string,
  digest: Digest,
  path: string,
  account: string | undefined,
): Promise<number> {
  // A thin uplink may need long for the first byte and between two; the mirror watches its sources itself.
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  try {
    const answer = await request(url, {
      dispatcher,
      signal: io.signal,
      headers:
        account === undefined ? {} : { authorization: `Basic ${Buffer.from(account).toString('base64')}` },
    });
    if (answer.statusCode !== 200) throw await refusal(answer.statusCode, answer.body);
    const counted = new HashedBytes();
    await pipeline(answer.body, counted, createWriteStream(path), { signal: io.signal });
    if (counted.digest() !== digest) {
      throw new TidepoolError('DIGEST_MISMATCH', `the mirror sent ${counted.digest()}; nothing was written`);
    }
    return counted.bytes;
  } catch (error) {
    io.signal.throwIfAborted();
    if (error instanceof TidepoolError) throw error;
    throw new TidepoolError('INTERNAL', `the blob did not arrive: ${describeError(error)}`, { cause: error });
  } finally {
    await dispatcher.destroy();
  }
}

async function refusal(status: number, body: AsyncIterable<unknown>): Promise<TidepoolError> {
  let text = '';
  for await (const chunk of body) {
    if (chunk instanceof Uint8Array) text += Buffer.from(chunk).toString('utf8');
    if (text.length > MAX_ERROR_BYTES) break;
  }
  const code = status === 401 ? 'UNAUTHORIZED' : status === 404 ? 'BLOB_UNKNOWN' : 'ORIGIN_ERROR';
  return new TidepoolError(code, messageOf(text) ?? `the mirror answers ${status}`);
}

/** Of an OCI error body. */
function messageOf(text: string): string | undefined {
  const found = /"message":("(?:[^"\\]|\\.)*")/.exec(text)?.[1];
  return found === undefined ? undefined : String(JSON.parse(found));
}

/** Passes bytes on and knows their digest. */
class HashedBytes extends Transform {
  readonly #hash = createHash('sha256');
  #hex: string | undefined;
  bytes = 0;

  /** After the end. */
  digest(): string {
    this.#hex ??= this.#hash.digest('hex');
    return `sha256:${this.#hex}`;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk);
    this.bytes += chunk.length;
    done(null, chunk);
  }
}
