import { formatBytes } from '../../shared/units.ts';
import type { StoreHealth } from '../ops/store-health.ts';

/** What a person has to know of the store's health: damage, a lost index, and when it was last looked through. */
export function storeText(health: StoreHealth, ago: (at: number) => string): string {
  const { damagedPieces, lastScrubAt, rebuild, repairedBlobs, scrubbedBytes } = health;
  const looked =
    lastScrubAt === null
      ? `${formatBytes(scrubbedBytes)} looked at, no pass ended yet`
      : `looked through ${ago(lastScrubAt)} ago`;
  const damage =
    damagedPieces === 0
      ? 'no damage found'
      : `${damagedPieces} damaged pieces, ${repairedBlobs} blobs repaired`;
  if (rebuild === null) return `${looked}, ${damage}`;
  const files = `${rebuild.found} blobs in ${rebuild.files} files, ${formatBytes(rebuild.bytes)}`;
  return `${looked}, ${damage}; the index was lost, ${rebuild.running ? 'so far' : 'and made anew with'} ${files}`;
}
