import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FallbackKeeper } from '../../../../../edge/runtime/containerd/fallback-keeper.ts';
import { HostsFiles } from '../../../../../edge/runtime/containerd/hosts-files.ts';
import { createLogger, silentLogger } from '../../../../../shared/log.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

const mirror = 'http://127.0.0.1:6180';
const ends = `server = "${mirror}"`;
const past = { mirror, fallback: true };
const MINUTE = 60_000;

let parent: string;
let root: string;
let keepers: FallbackKeeper[];
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'keeper-'));
  root = join(parent, 'certs.d');
  keepers = [];
});
afterEach(async () => {
  await Promise.all(keepers.map((keeper) => keeper.stop()));
  rmSync(parent, { recursive: true, force: true });
});

function put(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), text);
}
const read = (name: string): string => readFileSync(join(root, name, 'hosts.toml'), 'utf8');

/** Every file below the root: its bytes, its mode, and which file it is, so that one written anew is another. */
function snapshot(written = true): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(parent, { recursive: true, encoding: 'utf8' }).sort()) {
    const { mode, ino, mtimeNs } = statSync(join(parent, name), { bigint: true });
    if (statSync(join(parent, name)).isDirectory()) found[name] = 'directory';
    else {
      const when = written ? ` ${ino} ${mtimeNs}` : '';
      found[name] = `${mode.toString(8)}${when} ${readFileSync(join(parent, name), 'hex')}`;
    }
  }
  return found;
}

/** Runs with a root that this process may only read, also where tests run as root. */
function readOnly(run: () => void): void {
  const directories = ['', ...readdirSync(root)].map((name) => join(root, name));
  for (const path of [parent, ...directories]) chmodSync(path, path === parent ? 0o755 : 0o555);
  const root0 = process.geteuid?.() === 0;
  if (root0) process.seteuid?.(65_534);
  try {
    run();
  } finally {
    if (root0) process.seteuid?.(0);
    for (const path of directories) chmodSync(path, 0o755);
  }
}

async function keeper(wanted?: boolean, certsDir = root) {
  const clock = new ManualClock();
  const warnings: unknown[] = [];
  const log = createLogger('test', 'warn', { write: (line) => warnings.push(JSON.parse(line)) });
  let changes = 0;
  const made = new FallbackKeeper({ clock, log, onChange: () => changes++ }, { certsDir, hostRoot: '/' });
  keepers.push(made);
  made.set(wanted);
  await made.start();
  return { keeper: made, clock, warnings, changes: () => changes };
}

describe('FallbackKeeper', () => {
  it('has the files end at the agent or go past it, as told, and gives back what configure wrote', async () => {
    put('private.example/hosts.toml', 'server = "https://private.example"\n\n[host."https://m.example"]\n');
    put('ca.example/ca.crt', 'PEM');
    chmodSync(join(root, 'private.example/hosts.toml'), 0o640);
    const original = snapshot(false);
    const files = new HostsFiles(root);
    files.configure(
      [
        { registry: undefined },
        { registry: 'private.example' },
        { registry: 'ca.example' },
        { registry: 'a.example:5000', server: 'http://10.0.0.1' },
      ],
      past,
    );
    files.configure([{ registry: 'b.example' }], { mirror: 'http://127.0.0.1:7000', fallback: false });
    const names = ['_default', 'private.example', 'ca.example', 'a.example_5000_'];
    const configured = snapshot(false);
    const { keeper: kept, warnings } = await keeper(false);
    for (const name of names) {
      expect(read(name)).toContain(ends);
      expect(read(name)).not.toMatch(/m\.example|10\.0\.0\.1/);
    }
    expect(read('b.example')).toContain('server = "http://127.0.0.1:7000"');
    expect(statSync(join(root, 'private.example/hosts.toml')).mode & 0o777).toBe(0o640);

    kept.set(true);
    for (const name of [...names, 'b.example']) expect(read(name)).not.toMatch(/^server = "http:\/\/127/m);
    expect(read('a.example_5000_')).toContain('server = "http://10.0.0.1"');
    expect(read('private.example')).toContain('[host."https://m.example"]');
    expect(read('ca.example')).toContain(`ca = ["${root}/ca.example/ca.crt"]`);

    kept.set(false);
    kept.set(undefined);
    expect(snapshot(false)).toEqual(configured);
    kept.set(false);
    files.restore();
    expect(snapshot(false)).toEqual(original);
    expect(kept.problems).toEqual([]);
    expect(warnings).toEqual([]);
  });

  it('writes nothing where nothing changes: told again, looking again, after a restart', async () => {
    const files = new HostsFiles(root);
    files.configure([{ registry: undefined }], past);
    const untouched = snapshot();
    const idle = await keeper(undefined);
    idle.clock.advance(3 * MINUTE);
    expect(snapshot()).toEqual(untouched);

    await keeper(false);
    const written = snapshot();
    expect(written).not.toEqual(untouched);
    const again = new FallbackKeeper(
      { clock: new ManualClock(), log: silentLogger(), onChange: () => undefined },
      { certsDir: root, hostRoot: '/' },
    );
    keepers.push(again);
    // At a start the node's own settings come first, then what the hub said last.
    again.set(undefined);
    again.set(false);
    await again.start();
    again.set(false);
    expect(snapshot()).toEqual(written);
    // An init container configures before each start of the agent.
    const [change] = files.configure([{ registry: undefined }], past);
    expect(change).toMatchObject({ change: 'unchanged', note: expect.stringContaining('tuning decides') });
    expect(snapshot()).toEqual(written);
  });

  it('lets configure ask for something else meanwhile, which holds once the tuning is gone', async () => {
    const files = new HostsFiles(root);
    files.configure([{ registry: 'a.example' }], { mirror, fallback: false });
    const { keeper: kept } = await keeper(false);
    files.configure(
      [{ registry: 'a.example', server: 'http://10.0.0.2' }, { registry: 'new.example' }],
      past,
    );
    for (const name of ['a.example', 'new.example']) expect(read(name)).toContain(ends);
    kept.set(undefined);
    expect(read('a.example')).toContain('server = "http://10.0.0.2"');
    expect(read('new.example')).not.toContain('server');
  });

  it('touches no file of others, nor the pinned one, and makes none', async () => {
    put('theirs.example/hosts.toml', `[host."${mirror}"]\n`);
    const files = new HostsFiles(root);
    files.configure(
      ['changed', 'gone', 'link', 'ok'].map((name) => ({ registry: `${name}.example` })),
      past,
    );
    files.configure([{ registry: 'theirs.example' }], past);
    files.configure([{ registry: 'self-test.example', pinned: true }], { mirror, fallback: false });
    put('changed.example/hosts.toml', '# by hand\n');
    for (const name of ['gone', 'link']) unlinkSync(join(root, `${name}.example/hosts.toml`));
    put('elsewhere', 'linked');
    symlinkSync(join(root, 'elsewhere'), join(root, 'link.example/hosts.toml'));
    const pinned = read('self-test.example');
    const { keeper: kept, warnings } = await keeper(false);
    expect(read('ok.example')).toContain(ends);
    kept.set(true);
    expect(read('ok.example')).not.toContain(ends);
    expect([read('changed.example'), read('self-test.example'), read('link.example')]).toEqual([
      '# by hand\n',
      pinned,
      'linked',
    ]);
    expect(read('theirs.example')).toBe(`[host."${mirror}"]\n`);
    expect(existsSync(join(root, 'gone.example/hosts.toml'))).toBe(false);
    expect(kept.problems).toEqual([
      expect.stringMatching(/changed\.example\/hosts\.toml stays as it is: it was changed by hand/),
      expect.stringMatching(/gone\.example.*it is gone/),
      expect.stringMatching(/link\.example.*a symbolic link/),
    ]);
    expect(warnings).toHaveLength(1);
    kept.set(undefined);
    expect(kept.problems).toEqual([]);
  });

  it('finishes what a power cut left between the ledger and the file', async () => {
    new HostsFiles(root).configure([{ registry: 'a.example' }], past);
    const configured = read('a.example');
    const { keeper: kept } = await keeper(false);
    writeFileSync(join(root, 'a.example/hosts.toml'), configured);
    const after = await keeper(false);
    expect(read('a.example')).toContain(ends);
    expect(after.keeper.problems).toEqual([]);
    kept.set(undefined);
    expect(read('a.example')).toBe(configured);
  });

  it('says once that it cannot write, and does it when it can', async () => {
    new HostsFiles(root).configure([{ registry: 'a.example' }], past);
    const { keeper: kept, clock, warnings, changes } = await keeper(undefined);
    const before = snapshot();
    readOnly(() => {
      kept.set(true);
      expect(kept.problems).toEqual([expect.stringMatching(/^runtime\.originFallback: .*EACCES.*certs\.d$/)]);
      kept.set(undefined);
      expect(kept.problems).toEqual([]);
      kept.set(false);
      clock.advance(3 * MINUTE);
    });
    expect(snapshot()).toEqual(before);
    expect(warnings).toHaveLength(2);
    expect(changes()).toBe(0);
    clock.advance(MINUTE);
    expect(read('a.example')).toContain(ends);
    expect([kept.problems, changes()]).toEqual([[], 1]);
    readOnly(() => {
      kept.set(false);
      expect(kept.problems).toEqual([]);
    });
  });

  it('says that nothing is there, makes nothing, and follows configure within a minute', async () => {
    const { keeper: kept, clock, warnings, changes } = await keeper(false);
    expect(kept.problems).toEqual([expect.stringMatching(/nothing in .*certs\.d is ours: run .* configure/)]);
    expect(changes()).toBe(1);
    expect(existsSync(root)).toBe(false);
    new HostsFiles(root).configure([{ registry: undefined }], past);
    clock.advance(MINUTE);
    expect(read('_default')).toContain(ends);
    expect([kept.problems, changes(), warnings.length]).toEqual([[], 2, 1]);
  });
});
