/**
 * `npm run bench:hub [-- --json] [-- --outage]`: what a hub costs that has 1,000 nodes in 200 pools of a kube-apiserver, each
 * with a simulated agent, and how long an edit of the tuning takes to come back from all of them. `--outage` stops the API
 * server for a minute besides and counts what the hub asks of it. About a minute; never fails for a missed target.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryMib } from '../lab/proc.ts';
import { freshBundles } from '../support/bundles.ts';
import { Cleanup } from '../support/cleanup.ts';
import { findApiServer, startApiServer, type TestApiServer } from '../support/kube/api-server.ts';
import { startApiServerDouble } from '../support/kube/api-server-double.ts';
import { Cluster, NAMESPACE } from '../support/kube/fixtures.ts';
import { startScaledHub } from '../support/kube/scale.ts';
import { outage } from './outage.ts';

const AGENTS = 1_000;
const POOLS = 200;
const TIMEOUT_MS = 60_000;

interface Row {
  readonly what: string;
  readonly value: string;
  readonly target: string;
  readonly met: boolean;
}

const rows: Row[] = [];
const cleanup = new Cleanup();
const directory = mkdtempSync(join(tmpdir(), 'tidepool-bench-hub-'));
cleanup.add('files', () => rmSync(directory, { recursive: true, force: true }));

try {
  await measure();
} finally {
  for (const failure of await cleanup.run()) console.error(failure);
}
if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
else printTable();

async function measure(): Promise<void> {
  const { hub: hubBundle } = await freshBundles();
  const auditLog = join(directory, 'audit.log');
  const server = await apiServer(auditLog);
  cleanup.add('API server', () => server.close());
  const cluster = new Cluster(server);
  await cluster.namespaces(NAMESPACE, 'default');
  await cluster.prefetchCrd();
  await cluster.nodePoolCrd();
  const init = { agents: AGENTS, pools: POOLS, hubBundle, directory, timeoutMs: TIMEOUT_MS };
  const scaled = await startScaledHub(cluster, cleanup, init);
  const { pid } = scaled.hub;
  row(`hub on ${server.kind}, ${AGENTS} agents in ${POOLS} pools: memory`, memoryMib(pid).now, 'MiB', 150);
  row('from the start of all agents until the hub knows them', scaled.gatheredSeconds, 's', 15);
  const seconds = await scaled.retune({ wan: 'wan:\n- {name: everyone, settings: {download: 20Mbit}}' });
  row('from an edit of the ConfigMap until every agent echoes it', seconds, 's', 5);
  row('hub memory after that', memoryMib(pid).now, 'MiB', 150);
  if (!process.argv.includes('--outage')) return;
  if (server.kind === 'double') {
    console.log('skipped: the outage needs a real kube-apiserver');
    return;
  }
  const { during, after, caughtUpSeconds, missed } = await outage(cluster, scaled, auditLog);
  row('API server away for 60 s: connections tried meanwhile', during, '', 120);
  row('requests in the minute after it is back, without its history', after, '', 120);
  row('from then until every agent echoes what changed', caughtUpSeconds, 's', 45);
  row('changes missed', missed, '', 0);
  row('hub memory after that all', memoryMib(pid).now, 'MiB', 150);
}

async function apiServer(auditLog: string): Promise<TestApiServer> {
  const found = findApiServer();
  if (!('missing' in found)) return await startApiServer(found, { auditLog });
  console.log(`on a double, as ${found.missing}`);
  return await startApiServerDouble();
}

function row(what: string, value: number, unit: string, target: number): void {
  const shown = Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 0);
  rows.push({ what, value: `${shown} ${unit}`.trim(), target: `≤ ${target}`, met: value <= target });
}

function printTable(): void {
  const width = Math.max(...rows.map(({ what }) => what.length));
  for (const { what, value, target, met } of rows) {
    console.log(
      `${what.padEnd(width)}  ${value.padStart(10)}  ${target.padStart(7)}  ${met ? 'met' : 'missed'}`,
    );
  }
}
