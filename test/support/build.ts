/**
 * Bundles each process under `dist/`: `NAME.mjs` starts `NAME.program.js` with the bytecode in `NAME.code-cache`. Only the
 * native SQLite module stays outside.
 */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build } from 'esbuild';
import { programFiles } from '../../shared/launch.ts';
import { makeCodeCaches } from './code-cache/make.ts';
import { VendorParts } from './vendor-parts.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DIST = join(ROOT, 'dist');
const ROOMS = { 'tidepool-agent': 'edge', 'tidepool-hub': 'cloud' } as const;

const COMMON = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  // Less to parse and to keep: some 5 MiB of an agent. Names stay for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  logLevel: 'warning',
} as const satisfies BuildOptions;

mkdirSync(DIST, { recursive: true });
const vendorParts = new VendorParts();
// Made aside and moved: what runs from `dist` meanwhile never meets half a file.
const draft = mkdtempSync(join(DIST, '.draft-'));
try {
  for (const [name, room] of Object.entries(ROOMS)) await bundle(name, room);
  vendorParts.check();
  await makeCodeCaches(draft);
  for (const file of readdirSync(draft)) renameSync(join(draft, file), join(DIST, file));
} finally {
  rmSync(draft, { recursive: true });
}

async function bundle(name: string, room: string): Promise<void> {
  const { metafile } = await build({
    ...COMMON,
    entryPoints: [join(ROOT, room, 'main.ts')],
    outfile: programFiles(draft, name).program,
    format: 'cjs',
    external: ['better-sqlite3'],
    // One expression that is a function, so that the file's bytes are V8's source as they are.
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
    plugins: [vendorParts.plugin],
    legalComments: 'linked',
    metafile: true,
  });
  for (const { path, kind } of Object.values(metafile.outputs).flatMap(({ imports }) => imports)) {
    if (kind === 'dynamic-import')
      throw new Error(`${name}: import('${path}') is left, which a script cannot`);
  }
  const launcher = join(draft, `${name}.mjs`);
  await build({
    ...COMMON,
    entryPoints: [join(ROOT, room, 'launch.ts')],
    outfile: launcher,
    format: 'esm',
    banner: { js: '#!/usr/bin/env node' },
  });
  chmodSync(launcher, 0o755);
}
