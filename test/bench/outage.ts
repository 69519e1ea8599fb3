import { once } from 'node:events';
import { createServer } from 'node:net';
import type { NodeView } from '../../shared/wire/api.ts';
import { eventually } from '../support/hub-fixture.ts';
import { auditedRequests } from '../support/kube/api-server.ts';
import type { Cluster } from '../support/kube/fixtures.ts';
import type { ScaledHub } from '../support/kube/scale.ts';

const AWAY_MS = 60_000;
const AFTER_MS = 60_000;
const USER_AGENT = 'tidepool-hub';

export interface Outage {
  /** Connections that somebody opened to the API server's address while it was away. */
  readonly during: number;
  /** Requests in the minute after. */
  readonly after: number;
  readonly caughtUpSeconds: number;
  readonly missed: number;
}

/**
 * Stops the API server for a minute and starts it again. Then a node goes, one comes and the tuning changes; the history is
 * compacted at once, so that no watch can be resumed. Whoever opens a connection meanwhile is counted and sent away.
 */
export async function outage(cluster: Cluster, scaled: ScaledHub, auditLog: string): Promise<Outage> {
  const { server } = cluster;
  const { hub } = scaled;
  await cluster.node('goes', {});
  const names = async (): Promise<string[]> =>
    (await hub.get<NodeView[]>('/v1/nodes')).map(({ node }) => node);
  await eventually(names, (all) => all.includes('goes'));
  const hashes = await scaled.hashes();
  await server.halt();
  const during = await countConnections(Number(new URL(server.url).port), AWAY_MS);
  const before = (await auditedRequests(auditLog, USER_AGENT)).length;
  await server.resume();
  const back = performance.now();
  await cluster.removeNode('goes');
  await cluster.node('came', {});
  await cluster.tune({ wan: 'wan:\n- {name: everyone, settings: {download: 30Mbit}}' });
  await server.compact();
  await scaled.untilTuned(hashes, AFTER_MS);
  const caughtUpSeconds = (performance.now() - back) / 1000;
  const all = await eventually(names, (found) => found.includes('came') && !found.includes('goes')).catch(
    names,
  );
  const missed = (all.includes('came') ? 0 : 1) + (all.includes('goes') ? 1 : 0);
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, AFTER_MS - caughtUpSeconds * 1000)));
  const requests = (await auditedRequests(auditLog, USER_AGENT)).slice(before);
  if (process.argv.includes('--verbose')) console.error(tally(requests).join('\n'));
  return { during, after: requests.length, caughtUpSeconds, missed };
}

async function countConnections(port: number, ms: number): Promise<number> {
  let count = 0;
  const stand = createServer((socket) => {
    count++;
    socket.resetAndDestroy();
  });
  stand.listen(port, '127.0.0.1');
  await once(stand, 'listening');
  await new Promise((resolve) => setTimeout(resolve, ms));
  stand.close();
  await once(stand, 'close');
  return count;
}

/** How often each was asked for. */
function tally(requests: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const request of requests) {
    const what = request.replace(/\?.*/, '');
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([what, count]) => `${count} × ${what}`);
}
