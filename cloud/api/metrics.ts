import { Counter, Gauge, Registry } from 'prom-client';
import { rollUp } from '../prefetch/roll-up.ts';
import type { ApiComponents } from './types.ts';

/** The hub's metrics, read from its parts when they are asked for; a registry of their own. */
export function createMetrics(c: ApiComponents): Registry {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name: `tidepool_hub_${name}`,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name: `tidepool_hub_${name}`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  new Gauge({
    name: 'tidepool_hub_nodes',
    help: 'Nodes by state.',
    labelNames: ['state'],
    registers,
    collect() {
      const { nodes } = c.reconciler.view.membership;
      let online = 0;
      for (const node of nodes.keys()) if (c.observed.get(node)?.online === true) online++;
      this.set({ state: 'online' }, online);
      this.set({ state: 'offline' }, nodes.size - online);
    },
  });
  new Gauge({
    name: 'tidepool_hub_prefetch_nodes',
    help: 'Nodes of all prefetches by state.',
    labelNames: ['state'],
    registers,
    collect() {
      const states = ['active', 'succeeded', 'failed', 'skipped', 'waiting', 'offline'] as const;
      const sums = new Map<string, number>(states.map((state) => [state, 0]));
      for (const job of c.reconciler.view.jobs.values()) {
        const view = rollUp(job, (node) => c.observed.get(node));
        for (const state of states) sums.set(state, (sums.get(state) ?? 0) + view[state]);
      }
      for (const [state, value] of sums) this.set({ state }, value);
    },
  });
  new Counter({
    name: 'tidepool_hub_node_events_total',
    help: 'Events that nodes have told of, by kind.',
    labelNames: ['kind'],
    registers,
    collect() {
      this.reset();
      for (const [kind, count] of c.events?.counts ?? []) this.inc({ kind }, count);
    },
  });
  gauge(
    'pools',
    'Pools that a document names or a node is in.',
    () => c.reconciler.view.membership.pools.size,
  );
  gauge('prefetches', 'Prefetch jobs.', () => c.reconciler.view.jobs.size);
  gauge('problems', 'Things a person has to mend; GET /v1/problems lists them.', () => c.problems().length);
  gauge('broker_connected', '1 while the hub is connected to its broker.', () =>
    c.link.state.connected ? 1 : 0,
  );
  gauge('broker_connections', 'Connections of the embedded broker.', () => c.brokerConnections());
  gauge('publish_pending', 'Retained messages not yet at the broker.', () => c.publisher.pending);
  counter('published_total', 'Retained messages published.', () => c.publisher.published);
  counter('received_total', 'Messages of nodes received.', () => c.inbox.received);
  counter('received_bad_total', 'Messages of nodes that could not be read.', () => c.inbox.bad);
  return registry;
}
