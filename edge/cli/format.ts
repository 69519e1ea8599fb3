import { formatBytes } from '../../shared/units.ts';

/** Rows as aligned columns; the last is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  return rows
    .map(
      (row) =>
        `${row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  ')}\n`,
    )
    .join('');
}

/** `1d 2h`, `3m 4s`: the two largest units. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3_600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

const BAR_CELLS = 24;

/** `[########----]  52 %  104.2 MB of 200.0 MB, WAN 26.1 MB, peers 78.1 MB`, cut to the terminal. */
export function progressLine(
  counts: {
    readonly totalBytes: number;
    readonly doneBytes: number;
    readonly wanBytes: number;
    readonly peerBytes: number;
  },
  columns = 100,
): string {
  const { totalBytes, doneBytes, wanBytes, peerBytes } = counts;
  const share = totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes);
  const cells = Math.round(share * BAR_CELLS);
  const bar = `[${'#'.repeat(cells)}${'-'.repeat(BAR_CELLS - cells)}]`;
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  const text = `${bar} ${percent} %  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, WAN ${formatBytes(wanBytes)}, peers ${formatBytes(peerBytes)}`;
  return text.slice(0, Math.max(20, columns - 1));
}
