/** Writes the golden files anew: `npx tsx test/chart/refresh.ts`. Read the difference before you commit it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findHelm, GOLDEN, GOLDENS, render } from './helm.ts';

const helm = findHelm();
if (helm === undefined) throw new Error('no helm: run test/chart/helm.sh');
mkdirSync(GOLDEN, { recursive: true });
for (const { file, ...options } of GOLDENS) {
  const { ok, text, error } = render(helm, options);
  if (!ok) throw new Error(error);
  writeFileSync(join(GOLDEN, file), text);
  process.stdout.write(`${file}\n`);
}
