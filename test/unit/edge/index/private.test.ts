import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { openDatabase } from '../../../../edge/index/database.ts';
import { silentLogger } from '../../../../shared/log.ts';

const directory = mkdtempSync(join(tmpdir(), 'tidepool-index-'));
const umask = process.umask(0);
afterEach(() => {
  process.umask(umask);
  rmSync(directory, { recursive: true, force: true });
});

it('is readable by its owner alone, also where an older one was not', () => {
  const path = join(directory, 'index.db');
  const modes = (): string[] =>
    readdirSync(directory).map((file) => (statSync(join(directory, file)).mode & 0o777).toString(8));
  const first = openDatabase(path, silentLogger());
  expect(modes().length).toBeGreaterThan(1);
  expect(new Set(modes())).toEqual(new Set(['600']));
  first.close();
  chmodSync(path, 0o644);
  const again = openDatabase(path, silentLogger());
  expect(new Set(modes())).toEqual(new Set(['600']));
  again.close();
});
