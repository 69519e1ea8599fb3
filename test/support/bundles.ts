import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programFiles } from '../../shared/launch.ts';
import { mustRun } from '../lab/process.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DIST = join(ROOT, 'dist');
/** All that goes into the bundles. */
const SOURCES = [
  'edge',
  'cloud',
  'shared',
  'package-lock.json',
  'test/support/build.ts',
  'test/support/code-cache',
  'test/support/vendor-parts.ts',
];

export interface Bundles {
  readonly agent: string;
  readonly hub: string;
}

/** Both processes as `npm run build` makes them; built where they are missing or older than a source. */
export async function freshBundles(): Promise<Bundles> {
  const bundles = { agent: join(DIST, 'tidepool-agent.mjs'), hub: join(DIST, 'tidepool-hub.mjs') };
  const parts = ['tidepool-agent', 'tidepool-hub'].flatMap((name) => Object.values(programFiles(DIST, name)));
  const built = Math.min(...[...Object.values(bundles), ...parts].map(timeOf));
  if (built < Math.max(...SOURCES.map((source) => newest(join(ROOT, source))))) {
    await mustRun(['npm', 'run', '--silent', '--prefix', ROOT, 'build']);
  }
  return bundles;
}

function newest(path: string): number {
  const stats = statSync(path);
  if (!stats.isDirectory()) return stats.mtimeMs;
  // A directory's own time tells of files that were taken away.
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** 0 where there is no such file. */
function timeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
