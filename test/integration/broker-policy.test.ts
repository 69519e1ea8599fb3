import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'vitest';
import { EmbeddedBroker } from '../../cloud/broker/embedded-broker.ts';
import { brokerAcl } from '../../cloud/trust/broker-acl.ts';
import { type NodeName, type PoolName, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { BrokerAclFormat } from '../../shared/wire/api.ts';
import { type BrokerUnderTest, describeBrokerPolicy, POLICY_NODES } from '../support/broker-policy.ts';
import { freePort } from '../support/free-port.ts';
import type { TestAuthority, TestIdentity } from '../support/trust.ts';

const MOSQUITTO = '/usr/sbin/mosquitto';
const DYNSEC = [
  '/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so',
  '/usr/lib/aarch64-linux-gnu/mosquitto_dynamic_security.so',
].find((file) => existsSync(file));

const nodes = new Map<NodeName, PoolName>(
  Object.entries(POLICY_NODES).map(([node, pool]) => [parseNodeName(node), parsePoolName(pool)]),
);

async function startMosquitto(
  format: BrokerAclFormat,
  authority: TestAuthority,
  hub: TestIdentity,
): Promise<BrokerUnderTest> {
  const directory = await mkdtemp(path.join(tmpdir(), 'tidepool-mosquitto-'));
  const port = await freePort('127.0.0.1');
  const { key, cert } = hub.current();
  const rules = path.join(directory, 'rules');
  await writeFile(rules, brokerAcl(format, nodes).text, { mode: 0o600 });
  await writeFile(path.join(directory, 'roots.pem'), authority.root.cert);
  await writeFile(path.join(directory, 'cert.pem'), cert);
  await writeFile(path.join(directory, 'key.pem'), key, { mode: 0o600 });
  const config = [
    'per_listener_settings false',
    'log_dest stderr',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    ...(format === 'dynsec'
      ? [`plugin ${DYNSEC}`, `plugin_opt_config_file ${rules}`]
      : [`acl_file ${rules}`]),
    'allow_anonymous false',
    `listener ${port} 127.0.0.1`,
    `cafile ${path.join(directory, 'roots.pem')}`,
    `certfile ${path.join(directory, 'cert.pem')}`,
    `keyfile ${path.join(directory, 'key.pem')}`,
    'tls_version tlsv1.3',
    'require_certificate true',
    'use_identity_as_username true',
    'use_username_as_clientid true',
    '',
  ].join('\n');
  await writeFile(path.join(directory, 'mosquitto.conf'), config);
  const child = spawn(MOSQUITTO, ['-c', path.join(directory, 'mosquitto.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await running(child);
  return {
    port,
    async close() {
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill();
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function running(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4_000);
      if (/running/.test(said)) resolve();
    });
    child.once('exit', (code) => reject(new Error(`mosquitto ended with ${code}: ${said}`)));
  });
}

describeBrokerPolicy('embedded', async (_authority, hub) => {
  const broker = new EmbeddedBroker({ log: silentLogger(), identity: hub }, { host: '127.0.0.1', port: 0 });
  await broker.start();
  return { port: Number(broker.address.split(':').at(-1)), close: () => broker.stop() };
});

if (!existsSync(MOSQUITTO)) {
  describe('broker policy: mosquitto', () => {
    it.skip(`not run: there is no ${MOSQUITTO} (Debian: apt-get install mosquitto)`, () => undefined);
  });
} else {
  describeBrokerPolicy('mosquitto with an acl_file', (authority, hub) =>
    startMosquitto('mosquitto', authority, hub),
  );
  if (DYNSEC === undefined) {
    describe('broker policy: mosquitto with dynamic security', () => {
      it.skip('not run: this mosquitto comes without mosquitto_dynamic_security.so', () => undefined);
    });
  } else {
    describeBrokerPolicy('mosquitto with dynamic security', (authority, hub) =>
      startMosquitto('dynsec', authority, hub),
    );
  }
}
