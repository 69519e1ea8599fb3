import { formatBytes } from '../../shared/units.ts';
import type { PrefetchPoolView } from '../../shared/wire/api.ts';

interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Where there is no terminal, a line is written this often at most. */
const PLAIN_EVERY_MS = 2_000;
const BAR_CELLS = 30;

/** A line a pool: drawn over itself on a terminal, else now and then a plain one. */
export class PoolProgress {
  readonly #screen: Screen;
  /** Of the first state shown. */
  #started: number | undefined;
  #drawn = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  show(pools: readonly PrefetchPoolView[]): void {
    const now = performance.now();
    const started = this.#started ?? now;
    this.#started = started;
    const seconds = Math.floor((now - started) / 1000);
    // A terminal that does not know its width says 0.
    const columns = this.#screen.isTTY === true ? this.#screen.columns || 80 : 120;
    const lines = pools.map((pool) => lineOf(pool, seconds, columns));
    if (this.#screen.isTTY === true) {
      // Up to the first line, then each line over the old one, and nothing of a longer one left.
      const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : '';
      this.#screen.write(up + lines.map((line) => `\r${line}\u001b[K\n`).join(''));
      this.#drawn = lines.length;
    } else if (now - this.#saidAt >= PLAIN_EVERY_MS) {
      this.#saidAt = now;
      for (const line of lines) this.#screen.write(`${line}\n`);
    }
  }

  /** The last state, also where no line is due. */
  end(pools: readonly PrefetchPoolView[]): void {
    this.#saidAt = Number.NEGATIVE_INFINITY;
    this.show(pools);
  }
}

/** `pool-1 1/3 nodes  45 % [#####-----] WAN  90.1 MB  peers 178.3 MB   12 s`; the bar takes the room that is left. */
function lineOf(pool: PrefetchPoolView, seconds: number, columns: number): string {
  const { totalBytes, doneBytes, wanBytes, peerBytes } = pool;
  const share = totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes);
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  const left = `${pool.pool} ${pool.succeeded}/${pool.desired} nodes ${percent} % `;
  const [wan, peers] = [wanBytes, peerBytes].map((bytes) => formatBytes(bytes).padStart(8));
  const right = ` WAN ${wan}  peers ${peers} ${`${seconds}`.padStart(4)} s`;
  // Two for the brackets, one so that the terminal does not wrap.
  const cells = Math.max(0, Math.min(BAR_CELLS, columns - 3 - left.length - right.length));
  const done = Math.round(share * cells);
  const bar = cells === 0 ? '' : `[${'#'.repeat(done)}${'-'.repeat(cells - done)}]`;
  return (left + bar + right).slice(0, Math.max(20, columns - 1));
}
