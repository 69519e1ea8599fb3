import type { RosterMessage } from '../../shared/wire/messages/roster.ts';
import { ROSTER_SHARD_NODES } from '../../shared/wire/topics.ts';
import type { Member } from './membership.ts';

/** A shard before the publisher gives it epoch and version. */
export type RosterShard = Pick<RosterMessage, 'shard' | 'shards' | 'nodes'>;

/**
 * A pool's members in shards of at most 100. An empty pool has one empty shard: its agents must learn that they are
 * alone, and not believe what they remember. Labels stay here: whatever is decided by them is decided here, and those
 * of 100 Kubernetes nodes would not fit a message.
 */
export function rosterOf(
  members: readonly Member[],
  shardNodes = ROSTER_SHARD_NODES,
): readonly RosterShard[] {
  const shards = Math.max(1, Math.ceil(members.length / shardNodes));
  return Array.from({ length: shards }, (_, shard) => ({
    shard,
    shards,
    nodes: members
      .slice(shard * shardNodes, (shard + 1) * shardNodes)
      .map(({ node, address }) => ({ node, labels: {}, ...(address === undefined ? {} : { address }) })),
  }));
}
