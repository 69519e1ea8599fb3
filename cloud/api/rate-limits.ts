import { isIPv6 } from 'node:net';
import type { Clock } from '../../shared/clock.ts';

export interface Rate {
  readonly perSecond: number;
  /** So many at once, after a rest. */
  readonly burst: number;
}

/** Callers remembered; who was quiet for longest is forgotten first, and starts with a full bucket. */
const MAX_KEYS = 10_000;

/** How often each of many may do something; nobody waits in here, who comes too often is told when to come again. */
export class RateLimits {
  readonly #clock: Clock;
  readonly #rate: Rate;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(components: { readonly clock: Clock }, rate: Rate) {
    this.#clock = components.clock;
    this.#rate = rate;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Undefined when it may, else after how many ms. */
  take(key: string): number | undefined {
    const waitMs = this.wait(key);
    if (waitMs !== undefined) return waitMs;
    const bucket = this.#bucket(key);
    bucket.tokens -= 1;
    return undefined;
  }

  /** As {@link take}, without taking. */
  wait(key: string): number | undefined {
    const { tokens } = this.#bucket(key);
    return tokens >= 1 ? undefined : Math.ceil(((1 - tokens) / this.#rate.perSecond) * 1000);
  }

  #bucket(key: string): { tokens: number; at: number } {
    const now = this.#clock.mono();
    const { perSecond, burst } = this.#rate;
    const known = this.#buckets.get(key);
    const bucket =
      known === undefined
        ? { tokens: burst, at: now }
        : { tokens: Math.min(burst, known.tokens + ((now - known.at) * perSecond) / 1000), at: now };
    // Put behind all others: the first of the map is the one that was quiet for longest.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > MAX_KEYS) {
      for (const oldest of this.#buckets.keys()) {
        this.#buckets.delete(oldest);
        break;
      }
    }
    return bucket;
  }
}

/** One per caller: an IPv4 address, or the /64 that one host has of IPv6. */
export function sourceOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
  if (!isIPv6(plain)) return plain;
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array<string>(zeros).fill('0'), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
