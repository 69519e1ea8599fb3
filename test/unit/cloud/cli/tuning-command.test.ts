import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../../../cloud/cli/program.ts';
import type { NodeTuningView, NodeView, PoolTuningView } from '../../../../shared/wire/api.ts';
import { type HubFixture, startTestHub } from '../../../support/hub-fixture.ts';

const tuning = (thin: string): string => `apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning}
data:
  wan: |-
    wan:
    - {name: everyone, settings: {download: 50Mbit, connections: 8}}
    - {name: thin, pool: alpha, settings: {download: ${thin}}}
    - {name: lab, key: kubernetes.io/hostname, value: n2, settings: {connections: 2}}
`;
const NODES = ['n1', 'n2', 'n3']
  .map(
    (n) => `apiVersion: v1\nkind: Node\nmetadata: {name: ${n}, labels: {apps.openyurt.io/nodepool: alpha}}\n`,
  )
  .join('---\n');

const directory = mkdtempSync(join(tmpdir(), 'tidepool-tuning-'));
let hub: HubFixture;
beforeAll(async () => {
  hub = await startTestHub({ files: { 'nodes.yaml': NODES, 'tuning.yaml': tuning('10Mbit') } });
});
afterAll(async () => {
  await hub.close();
  rmSync(directory, { recursive: true, force: true });
});

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runCli(['tuning', ...args], '9.9.9', {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

describe('tuning explain', () => {
  it('shows each value, the entry it came from and what it stands over', async () => {
    const { code, out } = await cli('explain', '--node', 'n2', '--hub', hub.api, '--insecure');
    expect(code).toBe(0);
    expect(out).toMatch(/^node n2, pool alpha: the node has not said yet what it has in force\n/);
    expect(out).toMatch(/^wan\.download {2,}10Mbit {2,}wan\/thin {2,}50Mbit \(wan\/everyone\)$/m);
    expect(out).toMatch(/^wan\.connections {2,}2 {2,}wan\/lab {2,}8 \(wan\/everyone\)$/m);
    expect(out).toMatch(/^tags\.policy {2,}stale-if-offline {2,}default$/m);
  });

  it('says the same as JSON', async () => {
    const { out } = await cli('explain', '--node', 'n1', '--json', '--hub', hub.api, '--insecure');
    const view = JSON.parse(out) as NodeTuningView;
    expect(view).toMatchObject({ node: 'n1', pool: 'alpha', gateway: false, applied: null, problems: [] });
    expect(view.settings.find(({ setting }) => setting === 'wan.connections')).toEqual({
      setting: 'wan.connections',
      value: 8,
      from: { kind: 'wan', entry: 'everyone' },
      over: [],
    });
  });

  it('knows no node that is not there: 1', async () => {
    const { code, err } = await cli('explain', '--node', 'n9', '--hub', hub.api, '--insecure');
    expect(err).toMatch(/there is no node "n9"/);
    expect(code).toBe(1);
    expect((await cli('explain', '--hub', hub.api, '--insecure')).code).toBe(2);
  });
});

describe('tuning show', () => {
  it('says what the agents of a pool are told', async () => {
    const { code, out } = await cli('show', '--pool', 'alpha', '--hub', hub.api, '--insecure');
    expect(code).toBe(0);
    expect(out).toMatch(/^pool alpha: [0-9a-f]{8} in force on 0 of 3 nodes; every node goes over the WAN\n/);
    expect(out).toMatch(/^every node {2,}wan\.download {2,}10Mbit$/m);
    expect(out).toMatch(/^n2 {2,}wan\.connections {2,}2$/m);
    const json = JSON.parse(
      (await cli('show', '--pool', 'alpha', '--json', '--hub', hub.api, '--insecure')).out,
    ) as PoolTuningView;
    expect(json.settings).toEqual({ wan: { download: '10Mbit', connections: 8 } });
    expect((await cli('show', '--pool', 'beta', '--hub', hub.api, '--insecure')).err).toMatch(
      /there is no pool "beta"/,
    );
  });
});

describe('tuning check', () => {
  it('is silent about nothing: each mistake with file and line, exit code 1', async () => {
    const bad = file('bad.yaml', tuning('fast').replace('connections: 2', 'conections: 2'));
    const good = file('good.yaml', 'lan:\n- {name: a, settings: {upload: 1Gbit}}\n');
    const { code, out, err } = await cli('check', bad, good);
    expect(out.split('\n')).toEqual([
      expect.stringMatching(/bad\.yaml:8: wan\[1\]\.settings\.download: not a rate: "fast"/),
      `${bad}:9: wan[2].settings: unknown key "conections"; did you mean "connections"?`,
      '',
    ]);
    expect(err).toBe('');
    expect(code).toBe(1);
    const json = JSON.parse((await cli('check', bad, '--json')).out) as { problems: unknown[] };
    expect(json.problems).toHaveLength(2);
    expect(json.problems[1]).toMatchObject({ file: bad, line: 9 });
  });

  it('says of a sound file what it read; of none that it cannot be read', async () => {
    const good = file('good.yaml', tuning('10Mbit'));
    expect(await cli('check', good)).toEqual({
      code: 0,
      out: `${good}: 3 entries of 1 kind, no mistake\n`,
      err: '',
    });
    expect(await cli('check', join(directory, 'none.yaml'))).toMatchObject({
      code: 2,
      err: expect.stringMatching(/cannot read .*none.yaml: .*ENOENT/),
    });
  });

  it('shows what it would change on a running hub, and changes nothing', async () => {
    const next = file('next.yaml', tuning('12Mbit'));
    const { code, out } = await cli('check', next, '--against', hub.api, '--insecure');
    expect(code).toBe(0);
    expect(out).toMatch(/^alpha {2,}wan\.download {2,}10Mbit {2,}12Mbit {2,}3: n1 n2 n3$/m);
    expect(
      (await cli('check', file('same.yaml', tuning('10Mbit')), '--against', hub.api, '--insecure')).out,
    ).toMatch(/it would change nothing\n$/);
    const view = JSON.parse(
      (await cli('explain', '--node', 'n1', '--json', '--hub', hub.api, '--insecure')).out,
    ) as NodeTuningView;
    expect(view.settings[0]).toMatchObject({ setting: 'wan.download', value: '10Mbit' });
    const bad = await cli('check', file('bad.yaml', tuning('fast')), '--against', hub.api, '--insecure');
    expect(bad).toMatchObject({ code: 1, err: 'what it would change is shown once it is sound\n' });
  });
});

describe('the API', () => {
  it('refuses what is no tuning, and names no hash for a node that never spoke', async () => {
    const answer = await fetch(`${hub.api}/v1/tuning-checks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ data: { wan: 5 } }),
    });
    expect(answer.status).toBe(400);
    expect(await answer.text()).toMatch(/data\.wan/);
    expect((await hub.get<NodeView[]>('/v1/nodes'))[0]).toMatchObject({ tuningHash: null, tuned: null });
  });
});
