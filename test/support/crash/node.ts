import { join } from 'node:path';
import { openIndex, type SqliteIndex } from '../../../edge/index/sqlite-index.ts';
import type { RegistryOrigin } from '../../../edge/origin/types.ts';
import { makeTransfer, type Transfer } from '../../../edge/parts/transfer.ts';
import { HttpPeerClient } from '../../../edge/peers/client.ts';
import { Members } from '../../../edge/peers/members.ts';
import { Custody } from '../../../edge/retention/custody.ts';
import type { StoreIo } from '../../../edge/store/io.ts';
import { PieceStore } from '../../../edge/store/piece-store.ts';
import { parseNodeName, parsePoolName } from '../../../shared/ids.ts';
import { silentLogger } from '../../../shared/log.ts';
import { ManualClock } from '../manual-clock.ts';

const NODE = parseNodeName('node-a');
const ADDRESS = '127.0.0.1:1';
/** Small, so that a blob is marked in several goes. */
const FLUSH_BYTES = 500 * 1024;

/** What of an agent writes to the disk, without its servers. */
export interface CrashNode {
  readonly clock: ManualClock;
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  readonly transfer: Transfer;
  readonly custody: Custody;
  /** Resolves when the files of the store have been looked through, as slowly as that may be. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export async function openNode(
  directory: string,
  components: { readonly origin: RegistryOrigin; readonly io: StoreIo },
): Promise<CrashNode> {
  const clock = new ManualClock();
  const log = silentLogger();
  const index = openIndex(join(directory, 'index.db'), { log });
  const store = new PieceStore(
    { blobs: index.blobs, documents: index.documents, clock, log, io: components.io },
    { directory, node: NODE, flushBytes: FLUSH_BYTES },
  );
  await store.start();
  const pool = parsePoolName('pool-a');
  const client = new HttpPeerClient(
    { store, clock, identity: undefined },
    { node: NODE, pool, address: ADDRESS },
  );
  const members = new Members(
    { client, documents: index.documents, clock, log },
    { self: NODE, pool, peers: [] },
  );
  const transfer = makeTransfer(
    { index, store, origin: components.origin, client, members, clock, log, random: () => 0.5 },
    { node: NODE, address: ADDRESS, connections: 4, weight: () => 1 },
  );
  await transfer.swarms.start();
  return {
    clock,
    index,
    store,
    transfer,
    custody: new Custody({ store, book: index.custody, log }),
    settled: async () => {
      let isDone = false;
      void store.swept().then(() => {
        isDone = true;
      });
      while (!isDone) {
        clock.advance(1_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    close: async () => {
      await transfer.swarms.stop();
      await client.close();
      await store.stop();
      index.close();
    },
  };
}
