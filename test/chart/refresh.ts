/** Writes the golden files anew: `npx tsx test/chart/refresh.ts`. Read the difference before you commit it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findHelm, GOLDEN, PRESETS, render } from './helm.ts';

const helm = findHelm();
if (helm === undefined) throw new Error('no helm: run test/chart/helm.sh');
mkdirSync(GOLDEN, { recursive: true });
for (const preset of PRESETS) {
  const { ok, text, error } = render(helm, { preset });
  if (!ok) throw new Error(error);
  writeFileSync(join(GOLDEN, `${preset}.yaml`), text);
  process.stdout.write(`${preset}.yaml\n`);
}
