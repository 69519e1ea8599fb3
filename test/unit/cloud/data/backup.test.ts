import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Backup,
  formatBackup,
  makeBackup,
  parseBackup,
  restoreBackup,
  trustIn,
  writeSecretly,
} from '../../../../cloud/data/backup.ts';
import { nextEpoch } from '../../../../cloud/data/epoch.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let root: string;
let data: string;
const clock = new ManualClock();
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidepool-backup-'));
  data = path.join(root, 'data');
  await mkdir(path.join(data, 'prefetches'), { recursive: true });
  await nextEpoch(data, clock);
  await writeFile(path.join(data, 'prefetches', 'a.json'), '{"a":1}');
  await writeFile(path.join(data, 'ca.key'), Buffer.from([0, 255, 128, 10]));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const make = (): Promise<Backup> => makeBackup({ clock }, { directory: data, version: '1' });

describe('backup and restore', () => {
  it('brings back every byte, for its owner alone, under an epoch that agents believe', async () => {
    await writeFile(path.join(data, 'nodes.json.new'), 'half');
    await mkdir(path.join(data, 'lost+found'));
    const file = path.join(root, 'backup.json');
    await writeFile(`${file}.new`, 'left over', { mode: 0o644 });
    await writeSecretly(file, formatBackup(await make()));
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const epoch = await nextEpoch(data, clock);

    const target = path.join(root, 'restored', 'data');
    const backup = parseBackup(await readFile(file, 'utf8'), file);
    const restored = await restoreBackup({ clock }, backup, target);
    expect(restored.files).toBe(3);
    expect(restored.epoch).toBeGreaterThan(epoch);
    expect(await nextEpoch(target, clock)).toBeGreaterThan(restored.epoch);
    expect((await readdir(target)).sort()).toEqual(['ca.key', 'epoch.json', 'prefetches']);
    expect(await readFile(path.join(target, 'ca.key'))).toEqual(Buffer.from([0, 255, 128, 10]));
    expect((await stat(path.join(target, 'ca.key'))).mode & 0o777).toBe(0o600);
    expect(await readFile(path.join(target, 'prefetches', 'a.json'), 'utf8')).toBe('{"a":1}');
  });

  it('refuses a directory that holds something, and leaves it as it is', async () => {
    const backup = await make();
    await writeFile(path.join(data, 'ca.key'), 'newer');
    await expect(restoreBackup({ clock }, backup, data)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/is not empty \("ca.key".*nothing was written/),
    });
    expect(await readFile(path.join(data, 'ca.key'), 'utf8')).toBe('newer');
    // What a fresh volume has in it does not count.
    const volume = path.join(root, 'volume');
    await mkdir(path.join(volume, 'lost+found'), { recursive: true });
    await restoreBackup({ clock }, backup, volume);
  });

  it('empties the directory again when it cannot be restored', async () => {
    const backup = await make();
    const [first] = backup.files;
    if (first === undefined) throw new Error('no file');
    // A file and a directory of one name cannot both be.
    const broken = { ...backup, files: [...backup.files, { ...first, path: 'ca.key/x' }] };
    const target = path.join(root, 'target');
    await expect(restoreBackup({ clock }, broken, target)).rejects.toThrow(/was emptied again/);
    expect(await readdir(target)).toEqual([]);
  });

  it.each([
    ['{', /not JSON, or not all of it is there/],
    ['{}', /format: expected tidepool-hub-backup\/2/],
    [{ path: '../x' }, /it names "..\/x"/],
    [{ path: '/etc/passwd' }, /it names/],
    [{ path: 'a//b' }, /it names/],
    [{ data: 'AAAA' }, /is damaged/],
    [{ path: 'other' }, /has no epoch.json/],
  ])('refuses %j', async (change, message) => {
    const backup = await make();
    const text =
      typeof change === 'string'
        ? change
        : formatBackup({
            ...backup,
            files: backup.files.map((file) => (file.path === 'epoch.json' ? { ...file, ...change } : file)),
          });
    expect(() => parseBackup(text, 'b.json')).toThrow(message);
  });

  it('refuses a part of one, and says what of trust is in it', async () => {
    expect(trustIn(await make())).toBe('none');
    await mkdir(path.join(data, 'trust'));
    await writeFile(path.join(data, 'trust', 'ca.pem'), 'roots');
    expect(trustIn(await make())).toBe('roots');
    await writeFile(path.join(data, 'trust', 'ca.key'), 'key');
    await expect(make()).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
      message: expect.stringMatching(/no trust\/book\.json.*nothing was saved/),
    });
    await writeFile(path.join(data, 'trust', 'book.json'), '{}');
    const backup = await make();
    expect(trustIn(backup)).toBe('all');
    const without = (name: string): string =>
      formatBackup({ ...backup, files: backup.files.filter((file) => file.path !== name) });
    expect(() => parseBackup(without('trust/book.json'), 'b')).toThrow(/authority's key and no trust\/book/);
    expect(() => parseBackup(without('prefetches/a.json'), 'b')).toThrow(/files are missing from it/);
    expect(() => parseBackup(without('trust/ca.key'), 'b')).toThrow(/files are missing from it/);
    const text = formatBackup(backup);
    expect(() => parseBackup(text.slice(0, text.length / 2), 'b')).toThrow(/not all of it is there/);
    expect(parseBackup(text, 'b')).toEqual(backup);
    await rm(path.join(data, 'trust', 'ca.key'));
    expect(trustIn(await make())).toBe('book');
  });

  it('says what is no data of a hub', async () => {
    await expect(
      makeBackup({ clock }, { directory: path.join(root, 'no'), version: '1' }),
    ).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(makeBackup({ clock }, { directory: root, version: '1' })).rejects.toThrow(
      /has no epoch.json/,
    );
    await symlink('/etc/passwd', path.join(data, 'link'));
    await expect(make()).rejects.toThrow(/neither a file nor a directory/);
  });
});
