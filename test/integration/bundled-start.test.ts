import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { programFiles } from '../../shared/launch.ts';
import { type RunResult, run } from '../lab/process.ts';
import { type Bundles, freshBundles } from '../support/bundles.ts';

let bundles: Bundles;
let directory = '';
beforeAll(async () => {
  bundles = await freshBundles();
  directory = mkdtempSync(join(tmpdir(), 'bundled-start-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const start = (file: string, ...flags: string[]): Promise<RunResult> =>
  run([process.execPath, ...flags, file, '--version'], { env: { NODE_DEBUG: 'tidepool' } });

describe('a built bundle', () => {
  it.each(['agent', 'hub'] as const)('starts the %s from the bytecode of the build', async (name) => {
    const { code, stdout, stderr } = await start(bundles[name]);
    expect(stderr).toContain('code cache: used');
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^[\d.]+\n$/) });
  });

  it.each(['agent', 'hub'] as const)('loads for the %s no part of Node that it never calls', async (name) => {
    const spy = join(directory, 'spy.cjs');
    writeFileSync(spy, `process.on('exit', () => console.error(process.moduleLoadList.join('\\n')));`);
    const { stderr } = await start(bundles[name], `--require=${spy}`);
    expect(stderr).toContain('NativeModule http\n');
    for (const part of ['http2', 'internal/deps/undici/undici'])
      expect(stderr).not.toContain(`NativeModule ${part}\n`);
  });

  it('compiles anew where V8 runs with other flags', async () => {
    const { code, stdout, stderr } = await start(bundles.agent, '--no-opt');
    expect(stderr).toContain('code cache: refused');
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^[\d.]+\n$/) });
  });

  it('starts without the bytecode, and says in a line when more is missing', async () => {
    const launcher = join(directory, 'tidepool-hub.mjs');
    copyFileSync(bundles.hub, launcher);
    const alone = await start(launcher);
    expect(alone.code).toBe(1);
    expect(alone.stderr).toMatch(/^tidepool-hub: cannot read its program \(.*tidepool-hub\.program\.js.*\n$/);

    const { program } = programFiles(dirname(bundles.hub), 'tidepool-hub');
    copyFileSync(program, programFiles(directory, 'tidepool-hub').program);
    const slower = await start(launcher);
    expect(slower.stderr).toContain('code cache: missing');
    expect(slower.code).toBe(0);
  });
});
