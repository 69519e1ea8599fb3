import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CriRuntime, type RuntimeState } from '../../../../../edge/runtime/cri/cri-runtime.ts';
import type { RuntimeConnection } from '../../../../../edge/runtime/cri/types.ts';
import { Witness } from '../../../../../edge/runtime/cri/witness.ts';
import { TidepoolError } from '../../../../../shared/errors.ts';
import { parseImageRef } from '../../../../../shared/image-ref.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

const MINUTE = 60_000;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'runtime-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A runtime that asks the mirror, or does not, as told; its socket is a plain file. */
function fixture(init: { socket?: string | undefined } = {}) {
  const socket = 'socket' in init ? init.socket : join(directory, 'cri.sock');
  if (socket !== undefined) writeFileSync(socket, '');
  const clock = new ManualClock();
  const witness = new Witness();
  const changes: RuntimeState[] = [];
  const runtime = {
    usesMirror: true,
    /** Registries that it asks elsewhere. */
    astray: new Set<string>(),
    pulls: [] as string[],
    open: 0,
    versionError: undefined as TidepoolError | undefined,
  };
  const connection = (): RuntimeConnection => ({
    listContainerImages: async () => [],
    version: async () => {
      if (runtime.versionError !== undefined) throw runtime.versionError;
      return { name: 'containerd', version: 'v2.2.4' };
    },
    imageStatus: async () => undefined,
    listImages: async () => [],
    pullImage: async (name) => {
      runtime.pulls.push(name);
      const { registry, repository, tag } = parseImageRef(name);
      if (runtime.usesMirror && !runtime.astray.has(registry))
        witness.saw({ registry, repository, reference: tag });
      if (registry.endsWith('.invalid')) throw new TidepoolError('NOT_FOUND', `${name}: not found`);
      return 'sha256:id';
    },
    close: () => {
      runtime.open--;
    },
  });
  const cri = new CriRuntime(
    {
      clock,
      log: silentLogger(),
      random: () => 0.5,
      witness,
      connect: async () => {
        runtime.open++;
        return connection();
      },
      advise: () => ({ mirror: 'no', fix: 'set config_path' }),
      onChange: (state) => changes.push(state),
    },
    { socket },
  );
  const tests = (): number => runtime.pulls.filter((name) => name.startsWith('tidepool.invalid/')).length;
  return { cri, clock, changes, runtime, tests, socket };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('CriRuntime', () => {
  it('tests at its start, each hour while all is well, every ten minutes while it is not', async () => {
    const { cri, clock, changes, runtime, tests } = fixture();
    await cri.start();
    await settle();
    expect(tests()).toBe(0);
    clock.advance(5_000);
    await settle();
    expect(tests()).toBe(1);
    expect(cri.state).toMatchObject({ mirror: 'yes', runtime: 'containerd v2.2.4', fix: null });
    clock.advance(50 * MINUTE);
    await settle();
    expect(tests()).toBe(1);
    runtime.usesMirror = false;
    clock.advance(10 * MINUTE);
    await settle();
    expect(tests()).toBe(2);
    expect(cri.state).toMatchObject({ mirror: 'no', fix: 'set config_path' });
    clock.advance(10 * MINUTE);
    await settle();
    expect(tests()).toBe(3);
    expect(changes.map(({ mirror }) => mirror)).toEqual(['yes', 'no']);
    await cri.stop();
    expect(runtime.open).toBe(0);
  });

  it('asks for another name each time, so that no answer is an old one', async () => {
    const { cri, runtime } = fixture();
    await cri.selfTest();
    await cri.selfTest();
    expect(new Set(runtime.pulls).size).toBe(2);
  });

  it('takes no test that began before for an answer, and makes one more for all who ask meanwhile', async () => {
    const { cri, runtime } = fixture();
    runtime.usesMirror = false;
    const before = cri.selfTest();
    const after = [cri.selfTest(), cri.selfTest(), cri.selfTest()];
    expect((await before).mirror).toBe('no');
    runtime.usesMirror = true;
    expect((await Promise.all(after)).map(({ mirror }) => mirror)).toEqual(['yes', 'yes', 'yes']);
    expect(runtime.pulls).toHaveLength(2);
  });

  it('does not know without a socket, and finds one that comes later', async () => {
    const { cri, clock, socket = '', tests } = fixture();
    rmSync(socket);
    await cri.start();
    clock.advance(5_000);
    await settle();
    expect(cri.present).toBe(false);
    expect(cri.state).toMatchObject({ mirror: 'unknown', reason: expect.stringContaining(socket) });
    expect(await cri.pull(parseImageRef('a.example/x:1'), new AbortController().signal)).toBeUndefined();
    writeFileSync(socket, '');
    clock.advance(MINUTE);
    await settle();
    expect(tests()).toBe(1);
    expect(cri.state.mirror).toBe('yes');
    await cri.stop();
  });

  it('does not know while the runtime does not answer, and stays quiet where CRI is switched off', async () => {
    const { cri, runtime } = fixture();
    runtime.versionError = new TidepoolError('RUNTIME_ERROR', 'connection refused');
    expect(await cri.selfTest()).toMatchObject({
      mirror: 'unknown',
      reason: 'connection refused',
      fix: null,
    });
    const off = fixture({ socket: undefined });
    await off.cri.start();
    off.clock.advance(MINUTE);
    await settle();
    expect(off.runtime.pulls).toEqual([]);
    expect(off.cri.state).toMatchObject({ socket: null, mirror: 'unknown' });
  });

  it('pulls nothing into a runtime that would go past the mirror', async () => {
    const { cri, runtime } = fixture();
    runtime.usesMirror = false;
    const pull = cri.pull(parseImageRef('a.example/x:1'), new AbortController().signal);
    await expect(pull).rejects.toMatchObject({
      code: 'RUNTIME_NOT_CONFIGURED',
      message: expect.stringContaining('set config_path'),
    });
    expect(runtime.pulls.every((name) => name.startsWith('tidepool.invalid/'))).toBe(true);
    runtime.usesMirror = true;
    expect(await cri.pull(parseImageRef('a.example/x:1'), new AbortController().signal)).toEqual({
      imageId: 'sha256:id',
    });
  });

  it('notices a pull that went around the mirror for one registry', async () => {
    const { cri, runtime } = fixture();
    runtime.astray.add('b.example');
    const { signal } = new AbortController();
    expect(await cri.pull(parseImageRef('a.example/x:1'), signal)).toEqual({ imageId: 'sha256:id' });
    await expect(cri.pull(parseImageRef('b.example/x:1'), signal)).rejects.toMatchObject({
      code: 'RUNTIME_NOT_CONFIGURED',
      message: expect.stringContaining('--registry b.example'),
    });
    expect(runtime.open).toBe(0);
  });
});
