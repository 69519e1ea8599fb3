import { type NodeName, type PoolName, parseNodeName, parsePoolName } from '../ids.ts';

/** Root of every topic; the version is part of it, so two protocol versions share a broker. */
const ROOT = 'tidepool/v1';

/** Largest payload either side publishes or takes, bytes. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
/** Nodes in one retained roster message; 100 nodes are about 10 KB. */
export const ROSTER_SHARD_NODES = 100;

export const topics = {
  hubState: `${ROOT}/hub/state`,
  tuning: (pool: PoolName) => `${ROOT}/pools/${pool}/tuning`,
  roster: (pool: PoolName, shard: number) => `${ROOT}/pools/${pool}/roster/${shard}`,
  prefetch: (pool: PoolName, id: string) => `${ROOT}/pools/${pool}/prefetch/${id}`,
  prefetchIndex: (pool: PoolName) => `${ROOT}/pools/${pool}/prefetch-index`,
  trust: (pool: PoolName) => `${ROOT}/pools/${pool}/trust`,
  birth: (node: NodeName) => `${ROOT}/nodes/${node}/birth`,
  death: (node: NodeName) => `${ROOT}/nodes/${node}/death`,
  report: (node: NodeName) => `${ROOT}/nodes/${node}/report`,
  command: (node: NodeName) => `${ROOT}/nodes/${node}/command`,
} as const;

/** What a hub subscribes to, and an agent of a pool. */
export const filters = {
  hub: [`${ROOT}/nodes/+/birth`, `${ROOT}/nodes/+/death`, `${ROOT}/nodes/+/report`],
  /** Everything that a hub retains for pools: what an earlier hub left behind is found by these. */
  retained: [
    `${ROOT}/pools/+/tuning`,
    `${ROOT}/pools/+/roster/+`,
    `${ROOT}/pools/+/prefetch/+`,
    `${ROOT}/pools/+/prefetch-index`,
    `${ROOT}/pools/+/trust`,
  ],
  agent: (node: NodeName, pool: PoolName) => [
    topics.hubState,
    `${ROOT}/pools/${pool}/tuning`,
    `${ROOT}/pools/${pool}/roster/+`,
    `${ROOT}/pools/${pool}/prefetch/+`,
    topics.prefetchIndex(pool),
    topics.trust(pool),
    topics.command(node),
  ],
} as const;

export type ParsedTopic =
  | { readonly kind: 'hub-state' }
  | { readonly kind: 'tuning' | 'prefetch-index' | 'trust'; readonly pool: PoolName }
  | { readonly kind: 'roster'; readonly pool: PoolName; readonly shard: number }
  | { readonly kind: 'prefetch'; readonly pool: PoolName; readonly id: string }
  | { readonly kind: 'birth' | 'death' | 'report' | 'command'; readonly node: NodeName };

/** Everything that a pool is told is under this. */
export function poolPrefix(pool: PoolName): string {
  return `${ROOT}/pools/${pool}/`;
}

/** The topic's parts, or undefined for a topic that is not ours. */
export function parseTopic(topic: string): ParsedTopic | undefined {
  if (topic === topics.hubState) return { kind: 'hub-state' };
  if (!topic.startsWith(`${ROOT}/`)) return undefined;
  const [room, name, kind, last, ...more] = topic.slice(ROOT.length + 1).split('/');
  if (name === undefined || kind === undefined || more.length > 0) return undefined;
  try {
    if (room === 'nodes' && last === undefined) {
      if (kind === 'birth' || kind === 'death' || kind === 'report' || kind === 'command') {
        return { kind, node: parseNodeName(name) };
      }
    }
    if (room === 'pools') {
      const pool = parsePoolName(name);
      if ((kind === 'tuning' || kind === 'prefetch-index' || kind === 'trust') && last === undefined)
        return { kind, pool };
      if (kind === 'roster' && last !== undefined && /^\d{1,4}$/.test(last))
        return { kind, pool, shard: Number(last) };
      if (kind === 'prefetch' && last !== undefined && last !== '') return { kind, pool, id: last };
    }
  } catch {
    // A name that is no name: somebody else's topic.
  }
  return undefined;
}
