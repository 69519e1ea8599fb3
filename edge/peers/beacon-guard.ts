import { createHash, X509Certificate } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { KeyId, TlsIdentity } from '../../shared/trust/types.ts';
import { type Beacon, decodeBeacon, isSignedBy } from './beacon-wire.ts';

/** What became of beacons, since the agent's start. */
export interface BeaconCounts {
  readonly sent: number;
  readonly good: number;
  /** Not readable as one. */
  readonly malformed: number;
  /** Said before, or before what was said last. */
  readonly replayed: number;
  /** More than anybody needs to say; not looked at. */
  readonly flooded: number;
  /** By nobody who is trusted, or of another pool. */
  readonly refused: number;
  /** Under somebody's certificate, and not by its key. */
  readonly forged: number;
}

interface GuardInit {
  readonly pool: PoolName;
  /** Bounds for tests. */
  readonly keys?: number;
}

/** Signatures of strangers that are looked at: a tenth of a millisecond each. */
const STRANGERS = { perSecond: 50, burst: 100 } as const;
/** Of one that was good before: it says something every ten seconds. */
const KNOWN = { perSecond: 1, burst: 5 } as const;
/** Members of a pool whose beacons are remembered. */
const MAX_KEYS = 1_000;

interface Known {
  boot: number;
  seq: number;
  readonly rate: Allowance;
}

/**
 * Tells good beacons from others, at a price that does not grow with their number: what was said before is dropped by
 * its certificate's hash, and only so many signatures are looked at a second. Who was good before has an allowance of
 * his own, so that a flood of strangers does not keep him out.
 */
export class BeaconGuard {
  readonly #identity: TlsIdentity;
  readonly #clock: Pick<Clock, 'mono'>;
  readonly #pool: PoolName;
  readonly #maxKeys: number;
  readonly #strangers: Allowance;
  readonly #byKey = new Map<KeyId, Known>();
  readonly #byHash = new Map<string, Known>();
  readonly counts = { good: 0, malformed: 0, replayed: 0, flooded: 0, refused: 0, forged: 0 };

  constructor(
    components: { readonly identity: TlsIdentity; readonly clock: Pick<Clock, 'mono'> },
    init: GuardInit,
  ) {
    this.#identity = components.identity;
    this.#clock = components.clock;
    this.#pool = init.pool;
    this.#maxKeys = init.keys ?? MAX_KEYS;
    this.#strangers = new Allowance(components.clock, STRANGERS);
  }

  /** Who says where he is; undefined for what is worth nothing. Never throws. */
  take(bytes: Buffer): { readonly node: NodeName; readonly address: string } | undefined {
    const beacon = this.#decode(bytes);
    if (beacon === undefined) return undefined;
    const hash = createHash('sha256').update(beacon.certificate).digest('base64');
    const known = this.#byHash.get(hash);
    if (known !== undefined && !isAfter(beacon, known)) return this.#drop('replayed');
    if (!(known?.rate ?? this.#strangers).take()) return this.#drop('flooded');
    const principal = this.#judge(beacon);
    if (principal === undefined) return this.#drop('refused');
    const { publicKey } = new X509Certificate(beacon.certificate);
    if (!isSignedBy(beacon, publicKey)) return this.#drop('forged');
    const before = this.#byKey.get(principal.keyId);
    if (before !== undefined && !isAfter(beacon, before)) return this.#drop('replayed');
    const now = before ?? { boot: 0, seq: 0, rate: new Allowance(this.#clock, KNOWN) };
    now.boot = beacon.boot;
    now.seq = beacon.seq;
    remember(this.#byKey, principal.keyId, now, this.#maxKeys);
    remember(this.#byHash, hash, now, this.#maxKeys);
    this.counts.good++;
    return { node: principal.node, address: beacon.address };
  }

  #decode(bytes: Buffer): Beacon | undefined {
    try {
      return decodeBeacon(bytes);
    } catch {
      return this.#drop('malformed');
    }
  }

  #judge(beacon: Beacon): { readonly node: NodeName; readonly keyId: KeyId } | undefined {
    try {
      const principal = this.#identity.judge(beacon.certificate);
      return principal.kind === 'node' && principal.pool === this.#pool ? principal : undefined;
    } catch {
      // Counted by the caller: whoever likes may send these, and none of them is worth a line of the log.
      return undefined;
    }
  }

  #drop(why: Exclude<keyof BeaconCounts, 'sent' | 'good'>): undefined {
    this.counts[why]++;
    return undefined;
  }
}

function isAfter(
  { boot, seq }: { readonly boot: number; readonly seq: number },
  last: { readonly boot: number; readonly seq: number },
): boolean {
  return boot > last.boot || (boot === last.boot && seq > last.seq);
}

/** The one heard longest ago gives way. */
function remember<K>(map: Map<K, Known>, key: K, value: Known, max: number): void {
  map.delete(key);
  for (const oldest of map.keys()) {
    if (map.size < max) break;
    map.delete(oldest);
  }
  map.set(key, value);
}

/** So many at once, and so many a second; nobody waits. */
class Allowance {
  readonly #clock: Pick<Clock, 'mono'>;
  readonly #perSecond: number;
  readonly #burst: number;
  #left: number;
  #at: number;

  constructor(
    clock: Pick<Clock, 'mono'>,
    { perSecond, burst }: { readonly perSecond: number; readonly burst: number },
  ) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#left = burst;
    this.#at = clock.mono();
  }

  take(): boolean {
    const now = this.#clock.mono();
    this.#left = Math.min(this.#burst, this.#left + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
