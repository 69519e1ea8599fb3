import { appendFile, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AuditLog } from '../../../../cloud/trust/audit-log.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { silentLogger } from '../../../../shared/log.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidepool-audit-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const open = (maxFileBytes?: number): AuditLog =>
  new AuditLog(
    { clock: systemClock, log: silentLogger() },
    { file: path.join(root, 'audit.log'), ...(maxFileBytes === undefined ? {} : { maxFileBytes }) },
  );
const facts = (object: string) => ({ who: 'token:ci', from: '10.0.0.1', action: 'DELETE /x/:id', object });

describe('the audit log', () => {
  it('has a change on disk before it is made, and how it ended after', async () => {
    const log = open();
    const change = await log.begin(facts('/x/1'));
    const file = path.join(root, 'audit.log');
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ ...facts('/x/1'), outcome: 'begun' });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await change.end({ outcome: 'done', status: 204 });
    expect(await log.read()).toMatchObject([{ ...facts('/x/1'), outcome: 'done', status: 204 }]);
    await log.stop();
  });

  it('goes on after a crash in the middle of a line, and adds to what was there', async () => {
    const first = open();
    await first.note(facts('/x/1'), { outcome: 'done' });
    await first.stop();
    await appendFile(path.join(root, 'audit.log'), '{"at":"20');
    const second = open();
    await second.note(facts('/x/2'), { outcome: 'refused', status: 403 });
    expect((await second.read()).map(({ object }) => object)).toEqual(['/x/1', '/x/2']);
    await second.stop();
  });

  it('keeps the newest within its bound', async () => {
    const log = open(1_000);
    for (let i = 0; i < 60; i++) await log.note(facts(`/x/${i}`), { outcome: 'done' });
    const files = await readdir(root);
    expect(files.sort()).toEqual(['audit.log', 'audit.log.1', 'audit.log.2', 'audit.log.3', 'audit.log.4']);
    for (const file of files) expect((await stat(path.join(root, file))).size).toBeLessThanOrEqual(1_000);
    const found = (await log.read()).map(({ object }) => object);
    expect(found.at(-1)).toBe('/x/59');
    expect(found).toEqual(found.map((_each, index) => `/x/${60 - found.length + index}`));
    expect((await log.read({ limit: 2 })).map(({ object }) => object)).toEqual(['/x/58', '/x/59']);
    expect(await log.read({ since: Date.now() + 1_000 })).toEqual([]);
    await log.stop();
  });

  it('refuses a change that it cannot write down', async () => {
    const log = new AuditLog({ clock: systemClock, log: silentLogger() }, { file: root });
    await expect(log.begin(facts('/x/1'))).rejects.toMatchObject({ code: 'STORE_FULL' });
    await log.stop();
  });
});
