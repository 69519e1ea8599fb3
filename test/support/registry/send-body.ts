import { open } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { TokenBucket } from '../../../shared/flow/token-bucket.ts';
import type { BlobSource } from './layers.ts';
import type { Fault } from './options.ts';

const CHUNK_BYTES = 256 * 1024;
const MIN_CHUNK_BYTES = 1024;

export interface Slice {
  readonly source: BlobSource;
  readonly start: number;
  readonly end: number;
}

/** Reads a source at an offset into a buffer that the next call uses again. */
interface Reader {
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Writes a slice at the bucket's pace, with the fault's cut, stall or wrong bytes. Ends the response unless the fault or the client did.
 * Memory is one chunk a response, whatever the size of the blob.
 */
export async function sendBody(
  response: ServerResponse,
  slice: Slice,
  how: { bucket: TokenBucket; fault: Fault; contentLength: number; onSent: (bytes: number) => void },
): Promise<void> {
  const { bucket, fault, contentLength } = how;
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  const reader = await openReader(slice.source);
  try {
    const stopAt = Math.min(
      fault.cutAfter ?? contentLength,
      fault.stallAfter ?? contentLength,
      contentLength,
    );
    for (let sent = 0; sent < stopAt; ) {
      const want = Math.min(chunkFor(bucket.rate), stopAt - sent);
      await bucket.take(want, { signal: gone.signal });
      const offset = slice.start + sent;
      const real = Math.max(0, Math.min(want, slice.end - offset));
      let chunk = real > 0 ? await reader.read(offset, real) : new Uint8Array(want);
      if (fault.wrongBytes === true) {
        chunk = Uint8Array.from(chunk);
        chunk[chunk.length >> 1] = (chunk[chunk.length >> 1] ?? 0) ^ 0xff;
      }
      await write(response, chunk, gone.signal);
      how.onSent(chunk.length);
      sent += chunk.length;
    }
    if (fault.cutAfter !== undefined && fault.cutAfter < contentLength) response.destroy();
    else if (fault.stallAfter === undefined || fault.stallAfter >= contentLength) response.end();
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    await reader.close();
  }
}

function chunkFor(rate: number | undefined): number {
  if (rate === undefined) return CHUNK_BYTES;
  // A twentieth of a second: small enough that connections of one pool share fairly.
  return Math.max(MIN_CHUNK_BYTES, Math.min(CHUNK_BYTES, Math.floor(rate / 20)));
}

async function openReader(source: BlobSource): Promise<Reader> {
  if ('bytes' in source) {
    return {
      read: async (offset, length) => source.bytes.subarray(offset, offset + length),
      close: async () => undefined,
    };
  }
  const file = await open(source.path, 'r');
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  return {
    async read(offset, length) {
      const { bytesRead } = await file.read(buffer, 0, length, offset);
      if (bytesRead === 0) throw new Error(`${source.path} is shorter than it was`);
      return buffer.subarray(0, bytesRead);
    },
    close: () => file.close(),
  };
}

function write(response: ServerResponse, chunk: Uint8Array, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    response.write(chunk, (error) => {
      signal.removeEventListener('abort', onAbort);
      if (error) reject(error);
      else resolve();
    });
  });
}
