import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { PoolInventoryView } from '../../shared/wire/bundles.ts';
import type { PlannedJob } from './plan.ts';
import { type NodeState, progressOf } from './progress.ts';

/**
 * What a pool has, as far as prefetches tell: images of jobs that have succeeded on every node of the pool which they are
 * for. What was pulled without a job nobody has told the hub.
 */
export function inventoryOf(
  pool: PoolName,
  jobs: Iterable<PlannedJob>,
  lookup: (node: NodeName) => (NodeState & { readonly platform?: string | undefined }) | undefined,
): PoolInventoryView {
  const images = new Map<string, string>();
  const platforms = new Set<string>();
  for (const job of jobs) {
    const nodes = job.targets.get(pool) ?? [];
    const hasEnded = (node: NodeName): boolean => progressOf(job, node, lookup(node))?.state === 'succeeded';
    if (nodes.length === 0 || !nodes.every(hasEnded)) continue;
    for (const { image, digest, platforms: chosen } of job.messages.get(pool)?.images ?? []) {
      // Of platforms that a job has chosen the nodes have others than their own.
      if (chosen !== undefined) continue;
      const pinned = digest ?? job.pins?.get(image);
      if (pinned !== undefined) images.set(image, pinned);
    }
    for (const node of nodes) {
      const platform = lookup(node)?.platform;
      if (platform !== undefined) platforms.add(platform);
    }
  }
  // Nobody knows what of an image for several they have then.
  if (platforms.size === 0) images.clear();
  return {
    images: [...images].map(([image, digest]) => ({ image, digest })),
    platforms: [...platforms].sort(),
  };
}
