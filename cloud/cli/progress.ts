import { formatBytes } from '../../shared/units.ts';
import type { PrefetchPoolView, PrefetchView } from '../../shared/wire/api.ts';

const BAR_CELLS = 24;
/** Pools drawn one by one; a rollout over hundreds is drawn as one. */
const MAX_BARS = 12;

/** A bar a pool by bytes, and one line of sums: what `prefetch --wait` draws. */
export function progressLines(view: PrefetchView, columns: number): readonly string[] {
  const nameCells = Math.min(24, Math.max(4, ...view.pools.map(({ pool }) => pool.length)));
  const bars = view.pools.slice(0, MAX_BARS).map((pool) => barOf(pool, nameCells));
  const more = view.poolCount > MAX_BARS ? [`… and ${view.poolCount - MAX_BARS} more pools`] : [];
  const { succeeded, skipped, desired, failed, offline, active, waiting, bytes } = view;
  const parts = [
    `${succeeded + skipped} of ${desired} nodes done`,
    ...(active > 0 ? [`${active} active`] : []),
    ...(waiting > 0 ? [`${waiting} waiting`] : []),
    ...(offline > 0 ? [`${offline} offline`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    `${formatBytes(bytes.wan)} by WAN`,
    `${formatBytes(bytes.peer)} by peers`,
  ];
  return [...bars, ...more, parts.join(', ')].map((line) => line.slice(0, Math.max(20, columns - 1)));
}

function barOf(row: PrefetchPoolView, nameCells: number): string {
  // Until all manifests are known the total is too small, so a pool is never drawn as full before its nodes say so.
  const over = row.desired > 0 && row.succeeded + row.failed >= row.desired;
  const share = over ? 1 : Math.min(0.99, row.totalBytes === 0 ? 0 : row.doneBytes / row.totalBytes);
  const filled = Math.floor(share * BAR_CELLS);
  const name =
    row.pool.length > nameCells ? `${row.pool.slice(0, nameCells - 1)}…` : row.pool.padEnd(nameCells);
  const bar = `${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}`;
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  return `${name} [${bar}] ${percent}  ${formatBytes(row.doneBytes)} of ${formatBytes(row.totalBytes)}  ${row.succeeded}/${row.desired} nodes`;
}

/** Draws lines over the ones drawn before. */
export class LiveArea {
  readonly #write: (text: string) => unknown;
  #lines = 0;

  constructor(write: (text: string) => unknown) {
    this.#write = write;
  }

  draw(lines: readonly string[]): void {
    const up = this.#lines === 0 ? '' : `\u001b[${this.#lines}A`;
    this.#write(`${up}${lines.map((line) => `\r${line}\u001b[K\n`).join('')}\u001b[J`);
    this.#lines = lines.length;
  }
}
