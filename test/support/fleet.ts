/** Agents as a hub sees them, many in one process: real MQTT sessions, births, reports, the echo of tuning, jobs done. */
import { HubLink, type HubLinkInit } from '../../edge/sync/hub-link.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import { MemoryDocuments } from './memory-documents.ts';

export interface FleetInit {
  readonly agents: number;
  readonly pools: number;
  readonly mqtt: string;
  /** By node; none: plain. */
  readonly identities?: ReadonlyMap<string, TlsIdentity>;
  /** As agents have it where left out. */
  readonly link?: Partial<Pick<HubLinkInit, 'reconnect' | 'spreadMs' | 'reportIntervalMs'>>;
}

export class Fleet {
  readonly #links: readonly HubLink[];

  constructor(init: FleetInit) {
    this.#links = Array.from({ length: init.agents }, (_, index) => simulate(index, init));
  }

  async start(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.start()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.stop()));
  }

  get online(): number {
    return this.#links.filter((link) => link.state().connected).length;
  }

  /** When each one that is connected was, wall clock ms. */
  connectedAt(): number[] {
    return this.#links.flatMap((link) => (link.state().connected ? [link.state().since] : []));
  }
}

export function fleetNode(index: number): string {
  return `fleet-${index}`;
}

export function fleetPool(index: number, pools: number): string {
  return `fleet-pool-${index % pools}`;
}

/** Bytes that such a node says it holds. */
export function fleetBytes(index: number): number {
  return 1_000 + index;
}

function simulate(index: number, init: FleetInit): HubLink {
  const node = fleetNode(index);
  const link = new HubLink(
    {
      documents: new MemoryDocuments(),
      clock: systemClock,
      log: silentLogger(),
      identity: init.identities?.get(node),
    },
    {
      urls: [init.mqtt],
      node: parseNodeName(node),
      pool: parsePoolName(fleetPool(index, init.pools)),
      bootId: `boot-${process.pid}-${index}`,
      address: `10.2.${index >> 8}.${index & 255}:6181`,
      version: '0.1.0',
      platform: 'linux/arm64',
      ...init.link,
    },
  );
  const moved = { wanBytes: 0, peerBytes: 0, servedPeerBytes: 0, servedRuntimeBytes: 0 };
  link.report({ counters: { ...moved, storedBytes: fleetBytes(index), blobs: 3 } });
  link.onTuning(({ hash }) => link.report({ tuningHash: hash }));
  link.onPrefetch((jobs) => link.report({ prefetches: jobs.map(done) }));
  return link;
}

function done({ id, generation }: PrefetchMessage) {
  const bytes = { totalBytes: 1, doneBytes: 1, wanBytes: 0, peerBytes: 1 };
  return { id, generation, state: 'succeeded' as const, ...bytes };
}
