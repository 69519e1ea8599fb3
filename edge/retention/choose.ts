import type { BlobKey } from '../../shared/ids.ts';
import { LAN_COST } from './constants.ts';

/** A blob that may go, and what neighbours have said of it. */
export interface Candidate {
  readonly key: BlobKey;
  /** Bytes that its going frees. */
  readonly bytes: number;
  /** Wall clock, ms. */
  readonly lastUsed: number;
  /** Neighbours that hold it whole and have durably promised to keep it. */
  readonly keepers: number;
  /** Some neighbour gave no answer, or is giving the blob up itself: the pool may have fewer copies than it seems. */
  readonly doubtful: boolean;
}

export interface Choice {
  readonly evict: readonly Candidate[];
  /** Bytes that could not be found. */
  readonly short: number;
}

/**
 * Which blobs go. The last copies of a pool go last: first blobs that enough neighbours keep, then those that at least one
 * does, and only then what the pool will have to fetch over the uplink again; of those never one about which somebody
 * was silent. Within each step it is the least recent use, weighted by what it costs to get the blob back.
 * @param nothingElse no other blob of this node could be asked about: last copies may go
 */
export function chooseVictims(
  candidates: readonly Candidate[],
  want: {
    readonly bytes: number;
    readonly minReplicas: number;
    readonly now: number;
    readonly nothingElse: boolean;
  },
): Choice {
  const evict: Candidate[] = [];
  let short = want.bytes;
  const order = [...candidates].sort((a, b) => dispensability(b, want.now) - dispensability(a, want.now));
  const take = (may: (candidate: Candidate) => boolean): void => {
    for (const candidate of order) {
      if (short <= 0) return;
      if (evict.includes(candidate) || !may(candidate)) continue;
      evict.push(candidate);
      short -= candidate.bytes;
    }
  };
  take(({ keepers }) => keepers >= Math.max(1, want.minReplicas));
  take(({ keepers }) => keepers >= 1);
  if (want.nothingElse) take(({ keepers, doubtful }) => keepers === 0 && !doubtful);
  return { evict, short: Math.max(0, short) };
}

/** Grows with the time since the last use; a blob that only the uplink can bring back counts as used later. */
function dispensability({ lastUsed, keepers }: Candidate, now: number): number {
  return Math.max(0, now - lastUsed) / (keepers > 0 ? LAN_COST : 1);
}
