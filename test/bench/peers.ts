import type { Cleanup } from '../support/cleanup.ts';
import { CLIENT_NODE, POOL, SERVER_NODE } from '../support/peer-fixture.ts';
import { TestAuthority } from '../support/trust.ts';
import { median } from './cached-blob.ts';
import { ForkedEnd } from './forked-end.ts';
import type { FromPeerEnd, ToPeerEnd } from './peer-end.ts';

const ROUNDS = 7;

export interface PeerThroughput {
  readonly bytesPerSecond: number;
  /** Processor seconds of both ends for 1 GB. */
  readonly cpuPerGb: number;
}

class PeerEnd extends ForkedEnd<ToPeerEnd, FromPeerEnd> {
  constructor(cleanup: Cleanup, name: string) {
    super(cleanup, name, new URL('peer-end.ts', import.meta.url));
  }

  async cpu(): Promise<number> {
    return (await this.ask({ kind: 'cpu' }, 'cpu')).seconds;
  }
}

/** A blob of 256 MiB from one process to another over loopback, in turn with and without TLS; medians. */
export async function peerThroughput(
  cleanup: Cleanup,
): Promise<{ readonly plain: PeerThroughput; readonly tls: PeerThroughput }> {
  const authority = await TestAuthority.make();
  const [ours, theirs] = [await authority.node(SERVER_NODE, POOL), await authority.node(CLIENT_NODE, POOL)];
  const [server, client] = [new PeerEnd(cleanup, 'serving peer'), new PeerEnd(cleanup, 'fetching peer')];
  const ways = [];
  for (const secure of [false, true]) {
    const material = secure ? ours.current() : undefined;
    const { address } = await server.ask({ kind: 'serve', material }, 'serving');
    ways.push({ address, material: secure ? theirs.current() : undefined, found: [] as PeerThroughput[] });
  }
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { address, material, found } of ways) {
      const before = (await server.cpu()) + (await client.cpu());
      const { bytes, seconds } = await client.ask({ kind: 'fetch', address, material }, 'fetched');
      const cpu = (await server.cpu()) + (await client.cpu()) - before;
      // The first one compiles, connects and hashes what is told ever after.
      if (round > 0) found.push({ bytesPerSecond: bytes / seconds, cpuPerGb: cpu / (bytes / 1e9) });
    }
  }
  const [plain, tls] = ways.map(
    ({ found }): PeerThroughput => ({
      bytesPerSecond: median(found.map((each) => each.bytesPerSecond)),
      cpuPerGb: median(found.map((each) => each.cpuPerGb)),
    }),
  );
  if (plain === undefined || tls === undefined) throw new Error('nothing was measured');
  return { plain, tls };
}
