import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import mqtt from 'mqtt';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedBroker } from '../../../../cloud/broker/embedded-broker.ts';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { CliCapture, cli } from '../../../support/cli-capture.ts';
import { eventually } from '../../../support/hub-fixture.ts';
import {
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REPOSITORY,
} from '../../../support/origin-fixture.ts';

const START_MS = 60_000;
const IMAGE = `registry.test/${REPOSITORY}:v1`;

let fixture: OriginFixture;
let directory: string;
beforeAll(async () => {
  fixture = await originFixture();
});
afterAll(() => fixture.stop());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agent-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const runFlags = (more: readonly string[] = []): string[] => [
  'run',
  '--node=n1',
  '--address=127.0.0.1',
  `--data=${join(directory, 'data')}`,
  '--mirror=127.0.0.1:0',
  '--peer-port=0',
  '--ops=127.0.0.1:0',
  `--registry=registry.test=${fixture.registry.url}`,
  '--insecure',
  ...more,
];

interface UpLine {
  readonly node: string;
  readonly mirror: string;
  readonly peers: string;
  readonly ops: string;
}
function upLine(log: string): UpLine {
  const found = log.split('\n').find((line) => line.includes('"agent is up"'));
  return JSON.parse(found ?? 'null');
}

describe('run', () => {
  it('is up, answers commands, and ends with 0 when told to stop', async () => {
    const agent = new CliCapture();
    const ended = agent.run(...runFlags());
    await agent.shows('"agent is up"');
    const { node, mirror, peers, ops } = upLine(agent.stderr);
    expect(node).toBe('n1');
    for (const address of [mirror, peers, ops]) expect(address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(agent.stderr).toMatch(/"level":40.*--insecure/);

    const at = `--ops=${ops}`;
    const pulled = await cli(['pull', IMAGE, at, '--platform=linux/amd64', '--json']);
    expect(pulled.stderr).toBe('');
    const last = JSON.parse(pulled.stdout.trimEnd().split('\n').at(-1) ?? '');
    expect(last).toMatchObject({ type: 'done', digest: fixture.image.digest });
    expect(last.wanBytes).toBe(fixture.image.blobBytes);

    const shown = new CliCapture();
    expect((await shown.run('get-manifest', IMAGE, '--raw', at)).code).toBe(0);
    expect(digestOf(shown.stdout)).toBe(fixture.image.digest);

    const file = join(directory, 'layer.tar');
    expect((await cli(['get-blob', IMAGE, fixture.layer, '-o', file, at])).code).toBe(0);
    expect(digestOf(readFileSync(file))).toBe(fixture.layer);
    expect(readFileSync(file)).toHaveLength(LAYER_BYTES);

    const unknown = `sha256:${'0'.repeat(64)}`;
    const missing = await cli(['get-blob', IMAGE, unknown, '-o', join(directory, 'missing'), at]);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/^error: .+\(BLOB_UNKNOWN\)\n$/);
    expect(readdirSync(directory).sort()).toEqual(['data', 'layer.tar']);

    expect((await cli(['status', at])).stdout).toMatch(/^node +n1, pool default, 127\.0\.0\.1$/m);

    agent.stop();
    expect((await ended).code).toBe(0);
    expect(agent.stderr).toContain('"agent has stopped"');
    expect((await cli(['status', at])).code).toBe(1);
  });

  it('begins anew with another index, without ending, when it finds its own damaged', async () => {
    const path = join(directory, 'data', 'index.db');
    const index = openIndex(path, { log: silentLogger() });
    // More than stays in memory, and than is looked through at the opening.
    const digests = Array.from({ length: 20 }, (_, n) => {
      const bytes = Buffer.alloc(1_000_000, n);
      const digest = digestOf(bytes);
      index.manifests.put({ digest, mediaType: 'application/vnd.oci.image.manifest.v1+json', bytes });
      index.scope.put({ registry: 'registry.test', repository: REPOSITORY }, [{ digest, kind: 'manifest' }]);
      return digest;
    });
    index.documents.put('store/complete', true);
    index.close();
    const file = openSync(path, 'r+');
    for (let page = 100; page < 200; page++) writeSync(file, Buffer.alloc(4096, 0xff), 0, 4096, page * 4096);
    closeSync(file);

    const agent = new CliCapture();
    const ended = agent.run(...runFlags());
    await agent.shows('"agent is up"');
    const { mirror } = upLine(agent.stderr);
    for (const digest of digests) {
      // One of them finds it, and those that come later find nobody for a moment.
      await fetch(`http://${mirror}/v2/${REPOSITORY}/manifests/${digest}?ns=registry.test`).then(
        (answer) => answer.arrayBuffer(),
        () => undefined,
      );
    }
    await agent.shows('the index is damaged; the agent begins anew');
    const ups = () => agent.stderr.split('\n').filter((line) => line.includes('"agent is up"'));
    await expect.poll(() => ups().length, { timeout: START_MS }).toBe(2);
    const { ops } = upLine(ups()[1] ?? '');
    expect((await cli(['pull', IMAGE, `--ops=${ops}`, '--platform=linux/amd64'])).code).toBe(0);
    expect(readdirSync(join(directory, 'data'))).toContain('index.db.corrupt');
    expect(readdirSync(join(directory, 'data'))).not.toContain('index.db.damaged');
    agent.stop();
    expect((await ended).code).toBe(0);
  });

  it('moves to the pool that the hub says, without ending, and begins there the next time', async () => {
    const broker = new EmbeddedBroker({ log: silentLogger() }, { host: '127.0.0.1', port: 0 });
    await broker.start();
    const hub = mqtt.connect(`mqtt://${broker.address}`, {
      username: broker.login.username,
      password: broker.login.password,
    });
    const births: unknown[] = [];
    hub.on('message', (_topic, payload) => births.push(JSON.parse(payload.toString())));
    try {
      await hub.subscribeAsync('tidepool/v1/nodes/+/birth');
      const flags = runFlags([`--hub=mqtt://${broker.address}`, '--pool-from-hub']);
      const agent = new CliCapture();
      const ended = agent.run(...flags);
      await eventually(
        () => births.length,
        (count) => count === 1,
      );
      expect(births[0]).toMatchObject({ node: 'n1', pool: 'alone.n1' });
      const command = {
        id: '1',
        epoch: 1,
        expiresAt: Date.now() + 60_000,
        command: { kind: 'pool', pool: 'hangzhou' },
      };
      await hub.publishAsync('tidepool/v1/nodes/n1/command', JSON.stringify(command), { qos: 1 });
      await eventually(
        () => births.length,
        (count) => count === 2,
      );
      expect(births[1]).toMatchObject({ node: 'n1', pool: 'hangzhou' });
      await agent.shows('"pool":"hangzhou"');
      agent.stop();
      expect((await ended).code).toBe(0);
      expect(readFileSync(join(directory, 'data/pool'), 'utf8')).toBe('hangzhou\n');
    } finally {
      await hub.endAsync();
      await broker.stop();
    }
  });

  it('ends with 1 where it cannot listen, and says where', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const address = other.address();
    const port = address !== null && typeof address !== 'string' ? address.port : 0;
    const { code, stderr } = await cli(runFlags([`--mirror=127.0.0.1:${port}`]));
    other.close();
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`^error: .*127\\.0\\.0\\.1:${port}`, 'm'));
  });

  it('ends with 2 where its settings cannot be used', async () => {
    const config = join(directory, 'agent.yaml');
    const text = 'registries:\n  reg.example: {url: https://10.0.0.1, caFile: /nowhere/ca.pem}\n';
    writeFileSync(config, text);
    const { code, stderr } = await cli(runFlags([`--config=${config}`]), { files: { [config]: text } });
    expect(stderr).toContain('/nowhere/ca.pem');
    expect(code).toBe(2);
  });
});

describe('the process', () => {
  let child: ChildProcess | undefined;
  afterEach(async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  it(
    'ends by itself, and clean, after SIGTERM',
    async () => {
      child = spawn(process.execPath, ['--import', 'tsx', 'edge/main.ts', ...runFlags()], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const { stderr } = child;
      if (stderr === null) throw new Error('stderr is piped');
      let log = '';
      let asked = false;
      stderr.on('data', (chunk) => {
        log += String(chunk);
        if (asked || !log.includes('"agent is up"')) return;
        asked = true;
        child?.kill('SIGTERM');
      });
      const [code, signal] = await once(child, 'exit');
      expect({ code, signal, log }).toMatchObject({ code: 0, signal: null });
      expect(log).toContain('"agent has stopped"');
      expect(existsSync(join(directory, 'data/index.db'))).toBe(true);
    },
    START_MS,
  );
});
