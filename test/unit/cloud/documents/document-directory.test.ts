import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DocumentDirectory } from '../../../../cloud/documents/document-directory.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { silentLogger } from '../../../../shared/log.ts';

let directory: string;
let source: DocumentDirectory;
const node = (name: string): string => `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}}\n`;
const write = (file: string, text: string): Promise<void> => writeFile(path.join(directory, file), text);
const names = (): string[] => source.current().nodes.map(({ name }) => name);

function open(init: { debounceMs?: number; rescanMs?: number } = {}): DocumentDirectory {
  return new DocumentDirectory(
    { clock: systemClock, log: silentLogger() },
    { path: directory, debounceMs: 10, rescanMs: 60_000, ...init },
  );
}
function until(fits: () => boolean): Promise<void> {
  if (fits()) return Promise.resolve();
  return new Promise((resolve) => {
    const off = source.onChange(() => {
      if (!fits()) return;
      off();
      resolve();
    });
  });
}

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-documents-'));
});
afterEach(async () => {
  await source.stop();
  await rm(directory, { recursive: true, force: true });
});

describe('DocumentDirectory', () => {
  it('has everything after start, and follows what is written, renamed and taken away', async () => {
    await write('a.yaml', node('a'));
    await write('.hidden.yaml', node('hidden'));
    await write('notes.txt', 'no yaml');
    source = open();
    await source.start();
    expect(names()).toEqual(['a']);
    await write('b.yml', node('b'));
    await until(() => names().join() === 'a,b');
    await write('c.tmp', node('c'));
    await rename(path.join(directory, 'c.tmp'), path.join(directory, 'c.json'));
    await until(() => names().join() === 'a,b,c');
    await rm(path.join(directory, 'a.yaml'));
    await until(() => names().join() === 'b,c');
  });

  it('does without notices: reads again by the clock', async () => {
    source = open({ debounceMs: 3_600_000, rescanMs: 20 });
    await source.start();
    await write('a.yaml', node('a'));
    await until(() => names().join() === 'a');
  });

  it('follows links as a mounted ConfigMap has them', async () => {
    await mkdir(path.join(directory, '..data'));
    await writeFile(path.join(directory, '..data', 'a.yaml'), node('linked'));
    await symlink(path.join('..data', 'a.yaml'), path.join(directory, 'a.yaml'));
    source = open();
    await source.start();
    expect(names()).toEqual(['linked']);
  });

  it('a file that turns bad, and a directory that goes away, leave the last good state', async () => {
    await write('a.yaml', node('a'));
    source = open({ rescanMs: 50 });
    await source.start();
    await write('a.yaml', 'apiVersion: v1\nkind: Node\nmetadata: [\n');
    await until(() => source.current().problems.length > 0);
    expect(names()).toEqual(['a']);
    await rename(directory, `${directory}-away`);
    await until(() => source.current().problems.some(({ message }) => message.includes('cannot be read')));
    expect(names()).toEqual(['a']);
    await rename(`${directory}-away`, directory);
    await write('a.yaml', node('b'));
    await until(() => names().join() === 'b' && source.current().problems.length === 0);
  });

  it('tells nobody of a file that was written again with the same content', async () => {
    await write('a.yaml', node('a'));
    source = open();
    await source.start();
    let told = 0;
    source.onChange(() => told++);
    await write('a.yaml', node('a'));
    await write('b.yaml', node('b'));
    await until(() => names().join() === 'a,b');
    expect(told).toBe(1);
  });

  it('does not start over a directory that is not there', async () => {
    source = new DocumentDirectory(
      { clock: systemClock, log: silentLogger() },
      { path: path.join(directory, 'missing') },
    );
    await expect(source.start()).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });
});
