/** `bytes 0-9/100`; end exclusive, size undefined where the origin does not say (`*`). */
export interface ContentRange {
  readonly start: number;
  readonly end: number;
  readonly size: number | undefined;
}

const CONTENT_RANGE = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i;
const UNSATISFIED = /^bytes \*\/(\d{1,15})$/i;
const LENGTH = /^\d{1,15}$/;

export function parseContentRange(header: string | undefined): ContentRange | undefined {
  const match = CONTENT_RANGE.exec(header?.trim() ?? '');
  if (match === null) return undefined;
  const range = {
    start: Number(match[1]),
    end: Number(match[2]) + 1,
    size: match[3] === '*' ? undefined : Number(match[3]),
  };
  const sound = range.start < range.end && (range.size === undefined || range.end <= range.size);
  return sound ? range : undefined;
}

/** The size that a 416 names. */
export function parseUnsatisfied(header: string | undefined): number | undefined {
  const size = UNSATISFIED.exec(header?.trim() ?? '')?.[1];
  return size === undefined ? undefined : Number(size);
}

export function parseContentLength(header: string | undefined): number | undefined {
  return header !== undefined && LENGTH.test(header) ? Number(header) : undefined;
}
