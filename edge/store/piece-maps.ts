import { Bitmap } from '../../shared/bitmap.ts';
import { type PieceLayout, pieceLength } from '../../shared/pieces.ts';
import type { BlobRow } from '../index/blob-table.ts';

/** The pieces that a row marks. */
export function bitmapOf(row: BlobRow, pieceCount: number): Bitmap {
  const bytes = row.whole ? new Uint8Array(Math.ceil(pieceCount / 8)).fill(0xff) : row.bitmap;
  return new Bitmap(pieceCount, bytes);
}

/** The pieces set, in order. */
export function heldPieces(bitmap: Bitmap): number[] {
  return Array.from({ length: bitmap.size }, (_, piece) => piece).filter((piece) => bitmap.has(piece));
}

/** Bytes of the pieces set. */
export function bytesOf(bitmap: Bitmap, layout: PieceLayout): number {
  const last = layout.pieceCount - 1;
  const short = bitmap.has(last) ? layout.pieceSize - pieceLength(layout, last) : 0;
  return bitmap.count * layout.pieceSize - short;
}
