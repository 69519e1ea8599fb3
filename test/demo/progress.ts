import { progressLine } from '../../edge/cli/format.ts';
import type { PrefetchPoolView } from '../../shared/wire/api.ts';

interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Where there is no terminal, a line is written this often at most. */
const PLAIN_EVERY_MS = 2_000;

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
    const lines = pools.map((pool) => {
      const room = this.#screen.isTTY === true ? (this.#screen.columns ?? 100) : 200;
      const seconds = `${Math.floor((now - started) / 1000)}`.padStart(3);
      const head = `${seconds} s  ${pool.pool} ${pool.succeeded}/${pool.desired} nodes  `;
      return head + progressLine(pool, room - head.length);
    });
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
