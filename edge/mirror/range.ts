/** Bytes of a representation, end exclusive, never empty. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What a Range header asks of a representation of a given size.
 * `none`: no header, another unit, or not well-formed: the whole is sent (RFC 9110, 14.2).
 * `ranges`: those that can be satisfied, in the order asked, overlaps kept.
 * `unsatisfiable`: well-formed, and none lies within the size. `tooMany`: more than the bound.
 */
export type RangeRequest =
  | { readonly kind: 'none' }
  | { readonly kind: 'ranges'; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: 'unsatisfiable' }
  | { readonly kind: 'tooMany' };

const NONE: RangeRequest = { kind: 'none' };
const BYTES_UNIT = /^bytes=/i;
const SPEC = /^(\d*)-(\d*)$/;

/** Parses a Range header against a size in bytes. Never throws. */
export function parseRange(header: string | undefined, size: number, maxRanges: number): RangeRequest {
  if (header === undefined || !BYTES_UNIT.test(header)) return NONE;
  const ranges: ByteRange[] = [];
  let specs = 0;
  for (const element of header.slice('bytes='.length).split(',')) {
    const text = element.replace(/^[ \t]+|[ \t]+$/g, '');
    // Empty list elements are legal, and count for nothing (RFC 9110, 5.6.1.2).
    if (text === '') continue;
    const match = SPEC.exec(text);
    if (match === null) return NONE;
    const [, first = '', last = ''] = match;
    if (first === '' && last === '') return NONE;
    if (first !== '' && last !== '' && position(last) < position(first)) return NONE;
    specs++;
    const range = first === '' ? suffix(position(last), size) : within(first, last, size);
    if (range !== undefined) ranges.push(range);
  }
  if (specs === 0) return NONE;
  if (specs > maxRanges) return { kind: 'tooMany' };
  const [head, ...rest] = ranges;
  return head === undefined ? { kind: 'unsatisfiable' } : { kind: 'ranges', ranges: [head, ...rest] };
}

/** `bytes 0-499/1234`, as Content-Range has it: the last position is included. */
export function contentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end - 1}/${size}`;
}

function within(first: string, last: string, size: number): ByteRange | undefined {
  const start = position(first);
  if (start >= size) return undefined;
  return { start, end: last === '' ? size : Math.min(position(last) + 1, size) };
}

function suffix(length: number, size: number): ByteRange | undefined {
  return length === 0 || size === 0 ? undefined : { start: Math.max(0, size - length), end: size };
}

/** A position; those past what a number holds exactly are past every blob too, and are taken as the largest. */
function position(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER - 1);
}
