import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openIndex, type SqliteIndex } from '../../edge/index/sqlite-index.ts';
import { PieceStore, type PieceStoreInit } from '../../edge/store/piece-store.ts';
import type { StoredBlob } from '../../edge/store/types.ts';
import { type BlobKey, digestOf, type NodeName, parseNodeName } from '../../shared/ids.ts';
import { type Logger, silentLogger } from '../../shared/log.ts';
import { pieceRange } from '../../shared/pieces.ts';
import { ManualClock } from './manual-clock.ts';

export const READER: NodeName = parseNodeName('node-a');

export interface OpenStore {
  readonly directory: string;
  readonly clock: ManualClock;
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  /** Stops the store and closes the index; the directory stays. */
  close(): Promise<void>;
}

/** A store and its index in a real directory; time stands still, so nothing is flushed unless told to. */
export async function openStore(
  directory: string,
  init: Partial<PieceStoreInit> = {},
  log: Logger = silentLogger(),
): Promise<OpenStore> {
  const clock = new ManualClock();
  const index = openIndex(join(directory, 'index.db'), { log });
  const store = new PieceStore({ blobs: index.blobs, clock, log }, { directory, ...init });
  await store.start();
  return {
    directory,
    clock,
    index,
    store,
    close: async () => {
      await store.stop();
      index.close();
    },
  };
}

/** Temporary directories, to be removed together. */
export class TempDirectories {
  readonly #made: string[] = [];

  make(): string {
    const directory = mkdtempSync(join(tmpdir(), 'tidepool-'));
    this.#made.push(directory);
    return directory;
  }

  removeAll(): void {
    for (const directory of this.#made.splice(0)) rmSync(directory, { recursive: true, force: true });
  }
}

/** Bytes that differ at every offset and for every seed, so that a piece in the wrong place shows. */
export function sampleBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let offset = 0; offset < length; offset++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[offset] = state;
  }
  return bytes;
}

export function blobOf(length: number, seed = 1): { readonly bytes: Buffer; readonly key: BlobKey } {
  const bytes = sampleBytes(length, seed);
  return { bytes, key: digestOf(bytes) };
}

/** Writes one piece out of `bytes`, the content of the whole blob. */
export async function writePiece(
  store: PieceStore,
  blob: StoredBlob,
  bytes: Uint8Array,
  piece: number,
): Promise<void> {
  const { start, end } = pieceRange(blob.layout, piece);
  const part = bytes.subarray(start, end);
  const buffer = await store.buffer(part.length);
  buffer.bytes.set(part);
  const sha256 = createHash('sha256').update(part).digest();
  await blob.write(piece, buffer, { sha256, reader: READER, verified: false });
}

export async function writeAll(store: PieceStore, blob: StoredBlob, bytes: Uint8Array): Promise<void> {
  for (let piece = 0; piece < blob.layout.pieceCount; piece++) await writePiece(store, blob, bytes, piece);
}

/** All bytes of [start, end), by leases, each released. */
export async function readBytes(blob: StoredBlob, start = 0, end = blob.layout.size): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let position = start; position < end; ) {
    const lease = await blob.lease(position, end - position);
    parts.push(Buffer.from(lease.bytes));
    position += lease.bytes.length;
    lease.release();
  }
  return Buffer.concat(parts);
}
