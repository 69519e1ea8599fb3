/**
 * The demo: `npm run demo [-- IMAGE]`. Two pools take an image once each over a thin uplink; then registry and hub are
 * stopped, and a newcomer pulls it by tag. Ends with 0 only if every digest matched and no pool took more than 1.05 copies.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { table } from '../../cloud/cli/tables.ts';
import { formatBytes } from '../../shared/units.ts';
import { freshBundles } from '../support/bundles.ts';
import type { Cleanup } from '../support/cleanup.ts';
import { interruptible } from '../support/interruptible.ts';
import { Demo, type DemoResult } from './demo.ts';
import { PoolProgress } from './progress.ts';
import { realSource, sampleSource } from './sources.ts';

const USAGE =
  'usage: npm run demo [-- IMAGE]\n\n  IMAGE  a reference as in docker pull; left out: a sample image of 200 MB\n';
const MAX_COPIES = 1.05;
const SAMPLE_MS = 90_000;
const REAL_MS = 30 * 60_000;

const say = (text: string): void => void process.stdout.write(text);

/** Why the demo failed, in words; nothing when it did not. */
function flawsOf({ pools, offline, wrong }: DemoResult): string[] {
  const flaws = wrong.map((each) => `wrong bytes at ${each}`);
  for (const { pool, wanBytes } of pools) {
    const copies = wanBytes / offline.imageBytes;
    // Also what no number came of is too much.
    if (!(copies <= MAX_COPIES)) flaws.push(`${pool} took ${copies.toFixed(3)} copies over its uplink`);
  }
  if (offline.wanBytes > 0) flaws.push(`the newcomer's pull took ${offline.wanBytes} bytes over the uplink`);
  return flaws;
}

function tablesOf({ pools, offline }: DemoResult, countedBy: string): string {
  const { imageBytes } = offline;
  const prefetched = table(
    ['POOL', 'BY WAN', 'BY PEERS', 'SECONDS', 'WAN ÷ IMAGE'],
    pools.map(({ pool, wanBytes, peerBytes, seconds }) => [
      pool,
      formatBytes(wanBytes),
      formatBytes(peerBytes),
      seconds.toFixed(1),
      (wanBytes / imageBytes).toFixed(3),
    ]),
  );
  const rate = `${(imageBytes / offline.seconds / 1e6).toFixed(0)} MB/s`;
  const pulled = table(
    ['NEWCOMER', 'BY WAN', 'BY PEERS', 'SECONDS', 'RATE'],
    [
      [
        offline.node,
        formatBytes(offline.wanBytes),
        formatBytes(offline.peerBytes),
        offline.seconds.toFixed(1),
        rate,
      ],
    ],
  );
  return `\nprefetch of ${formatBytes(imageBytes)} (WAN ${countedBy})\n${prefetched}\npull by tag without registry and hub\n${pulled}\n`;
}

async function demo(cleanup: Cleanup, reference: string | undefined, signal: AbortSignal): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'tidepool-demo-'));
  cleanup.add(directory, () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  const bundles = await freshBundles();
  signal.throwIfAborted();
  const source = reference === undefined ? await sampleSource(cleanup, directory) : realSource(reference);
  const progress = new PoolProgress(process.stdout);
  const prefetchMs = reference === undefined ? SAMPLE_MS : REAL_MS;
  const result = await new Demo({ source, cleanup, progress, say }, { bundles, directory, prefetchMs }).run(
    signal,
  );
  say(tablesOf(result, source.countedBy));
  const flaws = flawsOf(result);
  for (const flaw of flaws) say(`FAILED: ${flaw}\n`);
  if (flaws.length === 0) say(`every digest matched, at ${result.verified} agents\n`);
  return flaws.length === 0 ? 0 : 1;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { help: { type: 'boolean', short: 'h', default: false } },
});
if (values.help || positionals.length > 1) {
  say(USAGE);
  process.exitCode = values.help ? 0 : 2;
} else {
  process.exitCode = await interruptible((cleanup, signal) => demo(cleanup, positionals[0], signal));
}
