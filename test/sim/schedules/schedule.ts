import { seeded } from '../virtual-clock.ts';

/** All of them go down and come back at other addresses, with nothing beyond the LAN to tell them. */
export const ALL_OFFLINE = 'restart all offline, moved';

export const KINDS = [
  'restart',
  'restart half',
  ALL_OFFLINE,
  'index lost',
  'partition',
  'uplink cut',
  'uplink flaps',
  'thin uplink',
  'origin errors',
  'garbage',
  'lies',
  'bad memory',
  'stall',
  'disk full',
  'clock',
  'join',
  'leave',
] as const;
export type FaultKind = (typeof KINDS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly at: number;
  /** ms until it is mended; for those that restart, how long they are down. */
  readonly lasts: number;
  readonly nodes: readonly number[];
  /** They come back at other addresses. */
  readonly moved: boolean;
  readonly skewMs: number;
}

export interface PullPlan {
  readonly node: number;
  readonly at: number;
  readonly how: 'whole' | 'range' | 'prefetch';
  readonly blobs: readonly number[];
}

/** One pool's bad day. */
export interface Schedule {
  readonly seed: number;
  readonly nodes: number;
  /** Bytes a second. */
  readonly uplink: number;
  readonly jitterMs: number;
  /** Sizes of the blobs, in bytes. */
  readonly sizes: readonly number[];
  readonly faults: readonly Fault[];
  readonly pulls: readonly PullPlan[];
}

const KIB = 1024;
/** Faults begin within this, and are over after as long again. */
const TROUBLE_MS = 25_000;
const LONGEST_MS = 15_000;
/** A member that says nothing and keeps its connections may go on like that: nobody is to wait for it. */
const LONG_STALL_MS = 120_000;
const TWO_YEARS_MS = 2 * 365 * 24 * 3_600_000;

/** The same schedule for the same seed. */
export function scheduleOf(seed: number): Schedule {
  const random = seeded(seed * 7919 + 1);
  const below = (n: number): number => Math.floor(random() * n);
  const nodes = 3 + below(4);
  const sizes = Array.from({ length: 1 + below(3) }, () => (8 + below(17)) * 256 * KIB - below(2) * 1000);
  // At most one member of a pool lies: of two that agree on the wrong bytes nobody could tell.
  const liar = below(nodes);
  const faults: Fault[] = [];
  for (let left = 2 + below(5); left > 0; left--) {
    const kind = KINDS[below(KINDS.length)] ?? 'restart';
    if (kind === 'leave' && faults.some((fault) => fault.kind === kind)) continue;
    faults.push(faultOf(kind, { random, below, nodes, liar }));
  }
  const all = sizes.map((_, blob) => blob);
  const pulls: PullPlan[] = [];
  for (let node = 0; node < nodes; node++) {
    for (let left = 1 + below(2); left > 0; left--) {
      const how = random() < 0.6 ? 'whole' : random() < 0.5 ? 'prefetch' : 'range';
      const blobs = random() < 0.7 ? all : [below(sizes.length)];
      pulls.push({ node, at: below(TROUBLE_MS), how, blobs });
    }
  }
  return {
    seed,
    nodes,
    uplink: 1e6 + below(4) * 1e6,
    jitterMs: random() < 0.7 ? 2 : 200,
    sizes,
    faults: faults.toSorted((a, b) => a.at - b.at),
    pulls,
  };
}

interface Dice {
  readonly random: () => number;
  readonly below: (n: number) => number;
  readonly nodes: number;
  readonly liar: number;
}

function faultOf(kind: FaultKind, dice: Dice): Fault {
  const { random, below, nodes, liar } = dice;
  const shuffled = Array.from({ length: nodes }, (_, node) => ({ node, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ node }) => node);
  const usual = { kind, at: below(TROUBLE_MS), lasts: 1_000 + below(LONGEST_MS), moved: false, skewMs: 0 };
  switch (kind) {
    case 'restart':
    case 'index lost':
      return { ...usual, nodes: shuffled.slice(0, 1), moved: random() < 0.3 };
    case 'restart half':
      return { ...usual, nodes: shuffled.slice(0, nodes >> 1), moved: random() < 0.3 };
    case ALL_OFFLINE:
      return { ...usual, nodes: shuffled, moved: true };
    case 'partition':
      return { ...usual, nodes: shuffled.slice(0, 1 + below(nodes - 1)) };
    case 'stall':
      return { ...usual, nodes: shuffled.slice(0, 1), lasts: random() < 0.5 ? LONG_STALL_MS : usual.lasts };
    case 'disk full':
      return { ...usual, nodes: shuffled.slice(0, 1 + below(nodes >> 1)) };
    case 'lies':
    case 'bad memory':
      return { ...usual, nodes: [liar] };
    case 'clock':
      return { ...usual, nodes: shuffled.slice(0, 1), skewMs: random() < 0.5 ? TWO_YEARS_MS : -TWO_YEARS_MS };
    case 'join':
      return { ...usual, nodes: shuffled.slice(0, 1), at: 0 };
    case 'garbage':
    case 'leave':
      return { ...usual, nodes: shuffled.slice(0, 1) };
    default:
      return { ...usual, nodes: [] };
  }
}
