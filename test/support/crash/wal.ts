/** SQLite's write-ahead log, as far as a power cut has to know it. */
const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const PAGE_SIZE_AT = 8;
const SALT_AT = 16;

/** A log as it lay on the disk at some moment. */
export interface WalImage {
  readonly bytes: Buffer;
  readonly salt: string;
  readonly frameBytes: number;
  /** Frames of the round that the header begins; what follows them is of a round before. */
  readonly frames: number;
}

export const NO_WAL: WalImage = { bytes: Buffer.alloc(0), salt: '', frameBytes: 0, frames: 0 };

export function readWal(bytes: Buffer): WalImage {
  if (bytes.length < HEADER_BYTES) return NO_WAL;
  const salt = bytes.toString('hex', SALT_AT, SALT_AT + 8);
  const frameBytes = FRAME_HEADER_BYTES + bytes.readUInt32BE(PAGE_SIZE_AT);
  let frames = 0;
  for (let at = HEADER_BYTES; at + frameBytes <= bytes.length; at += frameBytes) {
    if (bytes.toString('hex', at + 8, at + 16) !== salt) break;
    frames++;
  }
  return { bytes, salt, frameBytes, frames };
}

/** The log with its first frames only; with `torn` a part of the next one, as a power cut in the middle of it leaves it. */
export function cutWal(wal: WalImage, frames: number, torn: boolean): Buffer {
  if (wal.frameBytes === 0) return wal.bytes;
  const end = HEADER_BYTES + frames * wal.frameBytes;
  const half = torn && frames < wal.frames ? Math.floor(wal.frameBytes / 2) : 0;
  return wal.bytes.subarray(0, end + half);
}
