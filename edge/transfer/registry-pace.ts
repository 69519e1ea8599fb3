import type { Clock } from '../../shared/clock.ts';
import type { DocumentTable } from '../index/types.ts';
import {
  MAX_PACES,
  PACE_DECAY,
  PATIENCE_MIN_MS,
  PATIENCE_RATIO,
  PATIENCE_WRITE_RATIO,
  TAG_WAIT_MS,
} from './constants.ts';
import type { TransferStats } from './stats.ts';

interface RegistryPaceComponents {
  readonly documents: Pick<DocumentTable, 'get' | 'put'>;
  readonly stats: Pick<TransferStats, 'wanAt'>;
  readonly clock: Clock;
}

const DOCUMENT = 'registry-pace';

/**
 * How long the registries have been taking for an answer lately, and when something last came from beyond the pool. Kept on
 * disk: a node that starts behind a cut uplink knows what is usual.
 */
export class RegistryPace {
  readonly #c: RegistryPaceComponents;
  /** The slowest answer of late, ms; the one used last comes last. */
  readonly #slowest: Map<string, number>;
  readonly #written: Map<string, number>;
  #answeredAt: number | undefined;

  constructor(components: RegistryPaceComponents) {
    this.#c = components;
    this.#written = readPaces(components.documents.get(DOCUMENT));
    this.#slowest = new Map(this.#written);
  }

  /** A registry has answered a small question, with whatever it is. */
  answered(registry: string, tookMs: number): void {
    this.#answeredAt = this.#c.clock.mono();
    const slowest = slowestOf(this.#slowest.get(registry), tookMs);
    this.#slowest.delete(registry);
    this.#slowest.set(registry, slowest);
    for (const oldest of this.#slowest.keys()) {
      if (this.#slowest.size <= MAX_PACES) break;
      this.#slowest.delete(oldest);
    }
    if (isWorthWriting(this.#written.get(registry), slowest)) this.#write();
  }

  /** How long this registry's silence says nothing, ms; undefined where it has never answered here. */
  patienceMs(registry: string): number | undefined {
    const slowest = this.#slowest.get(registry);
    return slowest === undefined ? undefined : patienceOf(slowest);
  }

  /** When anything last came over the WAN, monotonic ms: an uplink that is slow, and not gone. */
  get heardAt(): number | undefined {
    const { wanAt } = this.#c.stats;
    if (wanAt === undefined || this.#answeredAt === undefined) return wanAt ?? this.#answeredAt;
    return Math.max(wanAt, this.#answeredAt);
  }

  #write(): void {
    this.#written.clear();
    for (const [registry, slowest] of this.#slowest) this.#written.set(registry, Math.round(slowest));
    this.#c.documents.put(DOCUMENT, Object.fromEntries(this.#written));
  }
}

/** What a registry took at most of late: a slow answer counts at once, and is forgotten over some dozens of quick ones. */
export function slowestOf(before: number | undefined, tookMs: number): number {
  return Math.max(tookMs, (before ?? 0) * PACE_DECAY);
}

/** How long a registry is waited for that took this long at most. */
export function patienceOf(slowestMs: number): number {
  return Math.min(TAG_WAIT_MS, Math.max(PATIENCE_MIN_MS, PATIENCE_RATIO * slowestMs));
}

/** Flash wears out: what is written down changes when the patience does, and by much. */
function isWorthWriting(written: number | undefined, slowest: number): boolean {
  if (written === undefined) return true;
  const [before, now] = [patienceOf(written), patienceOf(slowest)];
  return now > before * PATIENCE_WRITE_RATIO || now * PATIENCE_WRITE_RATIO < before;
}

function readPaces(kept: unknown): Map<string, number> {
  if (typeof kept !== 'object' || kept === null) return new Map();
  const paces = Object.entries(kept).filter((entry): entry is [string, number] => {
    return typeof entry[1] === 'number' && entry[1] >= 0;
  });
  return new Map(paces.slice(0, MAX_PACES));
}
