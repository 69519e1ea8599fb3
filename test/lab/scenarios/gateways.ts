import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PEER_PORT } from '../agent.ts';
import { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import type { PoolOfHosts } from '../pool.ts';
import { statusesOf, untilJoined } from './agent-parts.ts';
import { checkPulls, lastPull, pullOnAll } from './parts.ts';

const UPLINK_KBIT = 100_000;
const HOSTS = 4;

/** A hub names one gateway: it alone reads the image from the registry, and everyone has it. */
export async function gateways(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('medium');
  const pool = await lab.pool({
    hosts: HOSTS,
    uplinkKbit: UPLINK_KBIT,
    // Who is a gateway is the hub's word, and it counts signed.
    plain: false,
    extraFlags: [`--hub=${lab.gatekeeper.broker}`],
  });
  const document = join(lab.gatekeeper.documents, 'gateways.yaml');
  writeFileSync(document, clusterOf(pool));
  try {
    await untilJoined(pool, ({ tuningHash }) => tuningHash !== null);
    const bound = await lab.bound(pool, UPLINK_KBIT, image);
    const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts, image));
    await checkPulls(findings, 'with a gateway', pulls, image);
    const statuses = await statusesOf(pool);
    const shares = statuses.map(({ counters }) => counters.wanBytes / image.bytes);
    const [gateway = 0, ...others] = shares;
    const wanRatio = wan.down / bound.wanBytes;
    findings.add({ bound, wan, wanRatio, timeRatio: lastPull(pulls) / bound.seconds, shares });
    findings.atLeast('the gateway read the image', gateway, { strict: 1, loose: 1 });
    // Manifests are small, and each asks for those itself.
    findings.atMost('what others read, in images', Math.max(...others), { strict: 0.001, loose: 0.005 });
    findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.05, loose: 1.1 });
    findings.atMost('last pull against the bound', lastPull(pulls) / bound.seconds, {
      strict: 1.4,
      loose: 5,
    });
  } finally {
    rmSync(document, { force: true });
  }
  return findings;
}

/** The pool's nodes, the first of them with a label of its own, and the tuning that picks it. */
function clusterOf(pool: PoolOfHosts): string {
  const name = `pool-${pool.network.index}`;
  const nodes = pool.hosts.map(
    (host, index) => `apiVersion: v1
kind: Node
metadata:
  name: ${host.name}
  labels: {apps.openyurt.io/nodepool: ${name}, uplink: ${index === 0 ? 'fibre' : 'none'}}
  annotations: {tidepool.dev/address: "${host.address}:${PEER_PORT}"}
`,
  );
  return `${nodes.join('---\n')}---
apiVersion: apps.openyurt.io/v1beta2
kind: NodePool
metadata: {name: ${name}}
spec: {type: Edge}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning, namespace: kube-system}
data:
  swarm: |
    - name: fibre
      settings: {gateways: [{key: uplink, operator: In, values: [fibre]}]}
`;
}
