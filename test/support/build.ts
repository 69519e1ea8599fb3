/** Bundles each process into one executable file under `dist/`; only the native SQLite module stays outside. */
import { chmodSync } from 'node:fs';
import { build } from 'esbuild';

const BANNER = `#!/usr/bin/env node
import { createRequire as __createRequire } from 'node:module';
const require = __createRequire(import.meta.url);`;

const OUTPUTS = { 'tidepool-agent': 'edge/main.ts', 'tidepool-hub': 'cloud/main.ts' } as const;

await build({
  entryPoints: OUTPUTS,
  outdir: 'dist',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  external: ['better-sqlite3'],
  banner: { js: BANNER },
  // Less to parse and to keep: some 5 MiB of an agent. Names stay for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'linked',
  logLevel: 'warning',
});
for (const name of Object.keys(OUTPUTS)) chmodSync(`dist/${name}.mjs`, 0o755);
