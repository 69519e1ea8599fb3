/** A single byte range over `size` bytes, end exclusive. Several ranges, and what is no range, are ignored as RFC 9110 allows. */
export function parseRange(
  header: string,
  size: number,
): { readonly start: number; readonly end: number } | 'ignored' | 'unsatisfiable' {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header);
  if (match === null) return 'ignored';
  const [, first = '', last = ''] = match;
  if (first === '') {
    if (last === '') return 'ignored';
    const suffix = Math.min(Number(last), size);
    return suffix === 0 ? 'unsatisfiable' : { start: size - suffix, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  if (last !== '' && Number(last) < start) return 'ignored';
  return start >= size ? 'unsatisfiable' : { start, end };
}
