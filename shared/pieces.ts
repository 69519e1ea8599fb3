const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** Largest blob taken: 1 TiB. Its bitmap is 16 KiB. */
export const MAX_BLOB_BYTES = 1024 * GIB;

/**
 * The piece size of a blob, a pure function of its size, so that members agree without talking.
 * Bytes in, bytes out.
 */
export function pieceSizeFor(blobBytes: number): number {
  if (blobBytes <= 8 * MIB) return 256 * KIB;
  if (blobBytes <= 2 * GIB) return 1 * MIB;
  if (blobBytes <= 16 * GIB) return 4 * MIB;
  return 8 * MIB;
}

/** How a blob is cut. The last piece may be short; an empty blob has no piece. */
export interface PieceLayout {
  readonly size: number;
  readonly pieceSize: number;
  readonly pieceCount: number;
}

export function layoutOf(size: number, pieceSize: number = pieceSizeFor(size)): PieceLayout {
  return { size, pieceSize, pieceCount: Math.ceil(size / pieceSize) };
}

/** Byte range of one piece, end exclusive. */
export function pieceRange(layout: PieceLayout, piece: number): { start: number; end: number } {
  const start = piece * layout.pieceSize;
  return { start, end: Math.min(start + layout.pieceSize, layout.size) };
}

export function pieceLength(layout: PieceLayout, piece: number): number {
  const { start, end } = pieceRange(layout, piece);
  return end - start;
}

/** First and last piece that a byte range touches (end exclusive, not empty). */
export function piecesOfRange(
  layout: PieceLayout,
  start: number,
  end: number,
): { first: number; last: number } {
  return { first: Math.floor(start / layout.pieceSize), last: Math.floor((end - 1) / layout.pieceSize) };
}
