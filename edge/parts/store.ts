/** The store, what keeps it and its index whole, and what is told of that. */
import type { Clock } from '../../shared/clock.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import { IndexCopier } from '../index/index-copier.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { StoreHealth } from '../ops/store-health.ts';
import type { StoreIo } from '../store/io.ts';
import { PieceStore } from '../store/piece-store.ts';
import { Scrub } from '../store/scrub.ts';
import type { StoreRoom } from '../store/types.ts';

interface StoreParts {
  readonly store: PieceStore;
  /** In the order they start, after the store. */
  readonly upkeep: readonly Startable[];
  health(): StoreHealth;
}

export function makeStore(
  components: {
    readonly index: SqliteIndex;
    readonly events: EventSink;
    readonly room?: StoreRoom;
    readonly io?: StoreIo;
    readonly clock: Clock;
    readonly log: Logger;
  },
  init: { readonly node: NodeName; readonly directory: string },
): StoreParts {
  const { index, clock, log } = components;
  const { documents, blobs: rows } = index;
  const store = new PieceStore({ ...components, blobs: rows, documents }, init);
  const scrub = new Scrub({ rows, store, documents, clock, log });
  return {
    store,
    upkeep: [scrub, new IndexCopier({ index, clock, log })],
    health: () => ({
      damagedPieces: store.damage.pieces,
      repairedBlobs: store.damage.repaired,
      scrubbedBytes: scrub.state.bytes,
      lastScrubAt: scrub.state.lastPassAt,
      rebuild: store.rebuild ?? null,
    }),
  };
}
