import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../../../cloud/cli/program.ts';
import { LiveArea, progressLines } from '../../../../cloud/cli/progress.ts';
import { HubLink } from '../../../../edge/sync/hub-link.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { PrefetchView } from '../../../../shared/wire/api.ts';
import { type HubFixture, startTestHub } from '../../../support/hub-fixture.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

let hub: HubFixture;
let link: HubLink;
/** What the test's agent makes of every job. */
let outcome: 'succeeded' | 'failed' = 'succeeded';

beforeAll(async () => {
  hub = await startTestHub();
  link = new HubLink(
    { documents: new MemoryDocuments(), clock: systemClock, log: silentLogger() },
    {
      urls: [hub.mqtt],
      node: parseNodeName('n1'),
      pool: parsePoolName('alpha'),
      bootId: 'b',
      address: '127.0.0.1:6181',
      version: '0.1.0',
      platform: 'linux/amd64',
      spreadMs: 0,
      reportIntervalMs: 10,
    },
  );
  link.onPrefetch((jobs) => {
    const prefetches = jobs.map(({ id, generation }) => ({
      id,
      generation,
      state: outcome,
      totalBytes: 10,
      doneBytes: 10,
      wanBytes: 10,
      peerBytes: 0,
      ...(outcome === 'failed' ? { error: { code: 'MANIFEST_UNKNOWN', message: 'no such tag' } } : {}),
    }));
    link.report({ prefetches });
  });
  await link.start();
});
afterAll(async () => {
  await link.stop();
  await hub.close();
});

async function cli(
  args: readonly string[],
  isTTY = false,
): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  // The hub of these tests is a plain one.
  const plain = args.includes('--hub') && args.some((arg) => arg.startsWith('http://')) ? ['--insecure'] : [];
  const code = await runCli([...args, ...plain], '9.9.9', {
    stdout: { write: (text) => (out += text), isTTY, columns: 100 },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

describe('tidepool-hub', () => {
  it('helps, and tells its version', async () => {
    expect(await cli(['--help'])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/prefetch.*\n[\s\S]*Exit codes/),
    });
    expect(await cli(['run', '--help'])).toMatchObject({
      code: 0,
      out: expect.stringContaining('--documents <dir>'),
    });
    expect(await cli(['--version'])).toMatchObject({ code: 0, out: '9.9.9\n' });
  });

  it.each([
    [['pols'], /did you mean pools/i],
    [['run', '--dokuments', 'x'], /did you mean --documents/i],
    [['run', '--log-level', 'loud'], /allowed choices/i],
    [['run', '--insecure', '--mqtt', 'x'], /not an address to listen at/],
    [['prefetch', '--pool', 'p'], /missing required argument/],
    [['prefetch', 'busybox'], /say where: --pool NAME/],
    [['prefetch', 'busybox', '--all', '--pool', 'p'], /--all is every node/],
    [['pools', '--hub', 'nowhere'], /not a hub/],
    [['pools', '--data', '/nonexistent'], /nothing says which hub is the right one: .*ca\.pem.*--ca FILE/],
    [['api-token', 'create', '--name', 'x', '--role', 'root'], /allowed choices/i],
    [['audit', '--since', 'yesterday', '--insecure'], /yesterday/],
  ])('%j is wrong usage: 2', async (args, message) => {
    const { code, err } = await cli(args);
    expect(err).toMatch(message);
    expect(code).toBe(2);
  });

  it('says that no hub answers: 1', async () => {
    const { code, err } = await cli(['pools', '--hub', 'http://127.0.0.1:9999']);
    expect(err).toMatch(/no answer from the hub at http:\/\/127.0.0.1:9999: .*ECONNREFUSED/);
    expect(code).toBe(1);
  });

  it('waits for a prefetch: 0 when all nodes succeed, with lists beside it', async () => {
    outcome = 'succeeded';
    for (let up = false; !up; ) up = (await cli(['nodes', '--hub', hub.api])).out.includes('online');
    const done = await cli([
      'prefetch',
      'r.test/a:1',
      '--pool',
      'alpha',
      '--id',
      'good',
      '--wait',
      '--hub',
      hub.api,
    ]);
    expect(done.err).toBe('');
    expect(done.out).toMatch(/good: 1 of 1 nodes done, 10 B by WAN, 0 B by peers\n$/);
    expect(done.code).toBe(0);
    const list = await cli(['prefetches', '--hub', hub.api]);
    expect(list.out).toMatch(/good\s+done\s+1\/1\s+0\s+0\s+10 B\/10 B/);
    const json = await cli(['pools', '--json', '--hub', hub.api]);
    expect(JSON.parse(json.out)).toMatchObject([{ pool: 'alpha', online: 1 }]);
    expect((await cli(['nodes', '--pool', 'other', '--hub', hub.api])).out).toBe('no nodes\n');
  });

  it('waits for a prefetch: 1 when a node fails, with its reason', async () => {
    outcome = 'failed';
    const args = ['prefetch', 'r.test/a:2', '--node', 'n1', '--id', 'bad', '--wait', '--hub', hub.api];
    const plain = await cli(args);
    expect(plain.err).toMatch(/bad: n1: no such tag \(MANIFEST_UNKNOWN\)/);
    expect(plain.code).toBe(1);
    const json = await cli([...args, '--json']);
    expect(JSON.parse(json.out)).toMatchObject({ id: 'bad', failed: 1 });
    expect(json.code).toBe(1);
    const drawn = await cli(args, true);
    expect(drawn.out).toContain('alpha [########################] 100%');
    expect(await cli(['cancel', 'bad', '--hub', hub.api])).toMatchObject({ code: 0 });
    expect(await cli(['cancel', 'bad', '--hub', hub.api])).toMatchObject({ code: 1 });
  });
});

describe('progress', () => {
  const view = (more: Partial<PrefetchView>): PrefetchView => ({
    id: 'j',
    images: [],
    suspend: false,
    desired: 2,
    active: 0,
    succeeded: 0,
    failed: 0,
    skipped: 0,
    waiting: 0,
    offline: 0,
    bytes: { total: 0, done: 0, wan: 0, peer: 0 },
    pools: [],
    poolCount: 0,
    failedNodes: [],
    problems: [],
    ...more,
  });
  const row = { pool: 'alpha', desired: 2, succeeded: 0, failed: 0, wanBytes: 0, peerBytes: 0 };

  it('never draws a full bar before the nodes are through', () => {
    const bar = (doneBytes: number, succeeded: number) =>
      progressLines(
        view({ pools: [{ ...row, totalBytes: 100, doneBytes, succeeded }], poolCount: 1 }),
        200,
      )[0];
    expect(bar(0, 0)).toMatch(/alpha \[\.{24}\] {3}0%/);
    expect(bar(50, 0)).toMatch(/\[#{12}\.{12}\] {2}50%/);
    expect(bar(100, 1)).toMatch(/99%/);
    expect(bar(100, 2)).toMatch(/\[#{24}\] 100%/);
  });

  it('fits the terminal, and draws few of many pools', () => {
    const pools = Array.from({ length: 100 }, (_, i) => ({
      ...row,
      pool: `p${i}`,
      totalBytes: 1,
      doneBytes: 0,
    }));
    const lines = progressLines(view({ pools, poolCount: 400 }), 40);
    expect(lines).toHaveLength(14);
    expect(lines[12]).toBe('… and 388 more pools');
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(40);
  });

  it('draws over what it drew before', () => {
    let text = '';
    const area = new LiveArea((part) => (text += part));
    area.draw(['a', 'b']);
    area.draw(['c']);
    expect(text).toBe('\ra\u001b[K\n\rb\u001b[K\n\u001b[J\u001b[2A\rc\u001b[K\n\u001b[J');
  });
});
