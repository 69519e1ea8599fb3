import type { TagRecord } from '../index/types.ts';

/** Records dated further ahead of our clock than this are ignored: nobody can know an answer of the future. */
const FUTURE_MS = 5 * 60_000;

/**
 * Records of one tag that may be served while the origin is out of reach, best first: this node's own, newest first, then
 * what `quorum` members have alike, newest first.
 */
export function pickRecord(known: {
  readonly own: readonly TagRecord[];
  readonly others: readonly { readonly node: string; readonly record: TagRecord }[];
  readonly quorum: number;
  readonly now: number;
}): TagRecord[] {
  const dated = (record: TagRecord): boolean => record.originAt <= known.now + FUTURE_MS;
  const own = known.own.filter(dated).sort((a, b) => b.originAt - a.originAt);
  const byDigest = new Map<string, { nodes: Set<string>; newest: TagRecord }>();
  for (const { node, record } of known.others) {
    if (!dated(record)) continue;
    const entry = byDigest.get(record.digest);
    if (entry === undefined) byDigest.set(record.digest, { nodes: new Set([node]), newest: record });
    else {
      entry.nodes.add(node);
      if (record.originAt > entry.newest.originAt) entry.newest = record;
    }
  }
  const agreed = [...byDigest.values()]
    .filter((entry) => entry.nodes.size >= known.quorum)
    .map((entry) => entry.newest)
    .sort((a, b) => b.originAt - a.originAt);
  const seen = new Set<string>();
  return [...own, ...agreed].filter((record) => {
    if (seen.has(record.digest)) return false;
    seen.add(record.digest);
    return true;
  });
}
