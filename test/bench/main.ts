/**
 * The benchmarks: `npm run bench [-- --json]`. What an agent gives and costs on this machine, as ratios against
 * docker-registry, a plain client, or a fixed bound, all from the same run. Ends with 1 for wrong bytes or a failed pull;
 * a target that is missed is shown, and is no failure: other machines, and busy ones, have other figures.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { freshBundles } from '../support/bundles.ts';
import type { Cleanup } from '../support/cleanup.ts';
import { interruptible } from '../support/interruptible.ts';
import { bench } from './bench.ts';
import { reportJson, reportText } from './report.ts';
import { Stage } from './stage.ts';

const USAGE = 'usage: npm run bench [-- --json]\n\n  --json  the table as one line of JSON\n';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

async function main(cleanup: Cleanup, signal: AbortSignal): Promise<number> {
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  if (process.platform !== 'linux') throw new Error('processes are measured in /proc: the bench needs Linux');
  const { agent: bundle } = await freshBundles();
  signal.throwIfAborted();
  const directory = mkdtempSync(join(tmpdir(), 'tidepool-bench-'));
  cleanup.add(directory, () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  const started = performance.now();
  const report = await bench(new Stage({ cleanup }, { bundle, directory, signal }), say);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  say(`${seconds} s; ${availableParallelism()} processors, load ${loadavg()[0]?.toFixed(1)}\n`);
  process.stdout.write(values.json ? `${reportJson(report)}\n` : reportText(report));
  return 0;
}

if (values.help) process.stdout.write(USAGE);
else process.exitCode = await interruptible(main);
