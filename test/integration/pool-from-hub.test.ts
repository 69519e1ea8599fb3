import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { HubLink } from '../../edge/sync/hub-link.ts';
import { systemClock } from '../../shared/clock.ts';
import { lonePool, type PoolName, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { PoolView, ProblemView } from '../../shared/wire/api.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { MemoryDocuments } from '../support/memory-documents.ts';

const nodeYaml = (name: string, pool: string): string =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {apps.openyurt.io/nodepool: ${pool}}}\n`;

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startLink(hub: HubFixture, name: string, pool: PoolName, said: string[]): Promise<HubLink> {
  const link = new HubLink(
    { documents: new MemoryDocuments(), clock: systemClock, log: silentLogger() },
    {
      urls: [hub.mqtt],
      node: parseNodeName(name),
      pool,
      bootId: randomUUID(),
      address: '127.0.0.1:6181',
      version: '0.1.0',
      platform: 'linux/amd64',
      spreadMs: 20,
      reconnect: { baseMs: 50, maxMs: 400 },
      reportIntervalMs: 50,
    },
  );
  link.onPool((next) => said.push(next));
  await link.start();
  cleanups.push(() => link.stop());
  return link;
}

describe('the pool of a node', () => {
  it('is told by its label, again when the label changes, and is no problem while it waits', async () => {
    const hub = await startTestHub({ files: { 'n1.yaml': nodeYaml('n1', 'hangzhou') } });
    cleanups.push(() => hub.close());
    const said: string[] = [];
    const first = await startLink(hub, 'n1', lonePool(parseNodeName('n1')), said);
    await eventually(
      () => said,
      (all) => all.join() === 'hangzhou',
    );
    expect(await hub.get<ProblemView[]>('/v1/problems')).toEqual([]);
    await first.stop();

    const second = await startLink(hub, 'n1', parsePoolName('hangzhou'), said);
    await eventually(
      () => hub.get<PoolView[]>('/v1/pools'),
      (pools) => pools.some(({ pool, online }) => pool === 'hangzhou' && online === 1),
    );
    await hub.write('n1.yaml', nodeYaml('n1', 'ningbo'));
    await eventually(
      () => said,
      (all) => all.join() === 'hangzhou,ningbo',
    );
    await second.stop();
  });

  it('stays what its agent says where no label says another', async () => {
    const hub = await startTestHub();
    cleanups.push(() => hub.close());
    const said: string[] = [];
    await startLink(hub, 'n2', lonePool(parseNodeName('n2')), said);
    await eventually(
      () => hub.get<PoolView[]>('/v1/pools'),
      (pools) => pools.some(({ pool, online }) => pool === 'alone.n2' && online === 1),
    );
    expect(said).toEqual([]);
  });
});
