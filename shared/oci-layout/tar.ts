/**
 * The one form of tar that bundles have: plain files of owner 0 and time 0, named as their place says. Which file comes
 * next and how long it is, is known before: a reader makes the header that has to come and takes no other, so links,
 * devices, sparse files, extended headers and names that lead elsewhere are not told apart but simply not taken.
 */
import { bundleRefused } from './refusal.ts';

export const BLOCK_BYTES = 512;
/** What eleven octal digits can say; larger sizes are written in base 256, as GNU tar and Go do. */
const MAX_OCTAL = 8 ** 11 - 1;
const SIZE_AT = 124;
const SIZE_BYTES = 12;
const SUM_AT = 148;
const NAME_BYTES = 100;

export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK_BYTES);

export function tarHeader(name: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  if (Buffer.byteLength(name) >= NAME_BYTES) throw bundleRefused('a file in it has too long a name');
  block.write(name, 0, 'latin1');
  block.write('0000644\0', 100, 'latin1');
  block.write('0000000\0', 108, 'latin1');
  block.write('0000000\0', 116, 'latin1');
  writeSize(block, size);
  block.write('00000000000\0', 136, 'latin1');
  block.write('        ', SUM_AT, 'latin1');
  block.write('0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, SUM_AT, 'latin1');
  return block;
}

/** The length of the first file, which nothing has told of before; undefined where it is not a number. */
export function sizeIn(header: Uint8Array): number | undefined {
  const text = Buffer.from(header.subarray(SIZE_AT, SIZE_AT + SIZE_BYTES)).toString('latin1');
  return /^[0-7]{11}\0$/.test(text) ? Number.parseInt(text.slice(0, 11), 8) : undefined;
}

/** Zeros that fill a file's last block. */
export function paddingOf(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** Bytes that a file takes, with its header. */
export function tarBytes(size: number): number {
  return BLOCK_BYTES + size + paddingOf(size);
}

function writeSize(block: Buffer, size: number): void {
  if (size <= MAX_OCTAL) {
    block.write(`${size.toString(8).padStart(11, '0')}\0`, SIZE_AT, 'latin1');
    return;
  }
  block[SIZE_AT] = 0x80;
  block.writeBigUInt64BE(BigInt(size), SIZE_AT + SIZE_BYTES - 8);
}
