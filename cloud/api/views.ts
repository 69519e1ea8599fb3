import type { NodeName } from '../../shared/ids.ts';
import type { NodeView, PoolView } from '../../shared/wire/api.ts';
import type { Member, Membership } from '../pools/membership.ts';
import type { ObservedNode } from '../pools/observed-nodes.ts';
import type { PoolTuning } from '../pools/tuning-effective.ts';

type Observed = ReadonlyMap<NodeName, ObservedNode>;

export function poolViews(
  membership: Membership,
  tuning: ReadonlyMap<string, PoolTuning>,
  observed: Observed,
): readonly PoolView[] {
  return [...membership.pools]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([pool, members]) => {
      const hash = tuning.get(pool)?.hash ?? '';
      const row = { online: 0, tuned: 0, wanBytes: 0, peerBytes: 0 };
      for (const { node } of members) {
        const state = observed.get(node);
        if (state?.online === true) row.online++;
        if (state?.tuningHash === hash) row.tuned++;
        row.wanBytes += state?.counters?.wanBytes ?? 0;
        row.peerBytes += state?.counters?.peerBytes ?? 0;
      }
      return { pool, nodes: members.length, tuningHash: hash, ...row };
    });
}

/** @param poolHash of the tuning of the node's pool */
export function nodeView(
  member: Member,
  state: ObservedNode | undefined,
  poolHash: string | undefined,
): NodeView {
  return {
    node: member.node,
    pool: member.pool ?? null,
    online: state?.online ?? false,
    address: member.address ?? null,
    version: state?.version ?? null,
    platform: state?.platform ?? null,
    tuningHash: state?.tuningHash ?? null,
    tuned: state?.tuningHash === undefined ? null : state.tuningHash === poolHash,
    lastSeen: state?.lastSeen ?? null,
    counters: state?.counters ?? null,
    runtime: state?.runtime ?? null,
  };
}
