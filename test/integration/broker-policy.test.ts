import { existsSync } from 'node:fs';
import { describe, it } from 'vitest';
import { EmbeddedBroker } from '../../cloud/broker/embedded-broker.ts';
import { brokerAcl } from '../../cloud/trust/broker-acl.ts';
import { type NodeName, type PoolName, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { BrokerAclFormat } from '../../shared/wire/api.ts';
import { type BrokerUnderTest, describeBrokerPolicy, POLICY_NODES } from '../support/broker-policy.ts';
import { NO_MOSQUITTO, startMosquitto } from '../support/mosquitto.ts';
import type { TestAuthority, TestIdentity } from '../support/trust.ts';

const DYNSEC = [
  '/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so',
  '/usr/lib/aarch64-linux-gnu/mosquitto_dynamic_security.so',
].find((file) => existsSync(file));

const nodes = new Map<NodeName, PoolName>(
  Object.entries(POLICY_NODES).map(([node, pool]) => [parseNodeName(node), parsePoolName(pool)]),
);

function start(
  format: BrokerAclFormat,
  authority: TestAuthority,
  hub: TestIdentity,
): Promise<BrokerUnderTest> {
  const { key, cert } = hub.current();
  return startMosquitto({
    roots: authority.root.cert,
    cert,
    key,
    rules: brokerAcl(format, nodes).text,
    plugin: format === 'dynsec' ? DYNSEC : undefined,
  });
}

describeBrokerPolicy('embedded', async (_authority, hub) => {
  const broker = new EmbeddedBroker({ log: silentLogger(), identity: hub }, { host: '127.0.0.1', port: 0 });
  await broker.start();
  return { port: Number(broker.address.split(':').at(-1)), close: () => broker.stop() };
});

if (NO_MOSQUITTO !== undefined) {
  describe('broker policy: mosquitto', () => {
    it.skip(`not run: ${NO_MOSQUITTO}`, () => undefined);
  });
} else {
  describeBrokerPolicy('mosquitto with an acl_file', (authority, hub) => start('mosquitto', authority, hub));
  if (DYNSEC === undefined) {
    describe('broker policy: mosquitto with dynamic security', () => {
      it.skip('not run: this mosquitto comes without mosquitto_dynamic_security.so', () => undefined);
    });
  } else {
    describeBrokerPolicy('mosquitto with dynamic security', (authority, hub) =>
      start('dynsec', authority, hub),
    );
  }
}
