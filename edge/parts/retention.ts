/** What looks after the room on the disk: parts that the store needs, and parts that need the store. */
import { join } from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { HttpPeerClient } from '../peers/client.ts';
import type { Members } from '../peers/members.ts';
import type { Member } from '../peers/types.ts';
import { CacheKeeper } from '../retention/cache-keeper.ts';
import { Cleaner } from '../retention/cleaner.ts';
import { RESERVE_BYTES } from '../retention/constants.ts';
import { Custody } from '../retention/custody.ts';
import { Pins, type PinsComponents as PinsInit } from '../retention/pins.ts';
import type { DiskFree } from '../retention/pressure.ts';
import { Reserve } from '../retention/reserve.ts';
import { Room } from '../retention/room.ts';
import type { PieceStore } from '../store/piece-store.ts';

interface RoomParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventSink;
}

/** Made before the store, which asks it for room. */
export function makeRoom(components: RoomParts, init: { readonly data: string }): Room {
  const reserve = new Reserve({ path: join(init.data, 'reserve'), bytes: RESERVE_BYTES });
  return new Room({ ...components, reserve });
}

interface RetentionComponents {
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  readonly members: Members;
  readonly client: Pick<HttpPeerClient, 'custody'>;
  readonly room: Room;
  /** What is being downloaded, or taken in. */
  readonly active: (key: BlobKey) => boolean;
  readonly prefetched: PinsInit['prefetched'];
  readonly inUse: PinsInit['inUse'];
  /** Rows were removed: whoever remembers some has to look again. */
  readonly onCleaned: () => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

export interface Retention {
  readonly custody: Custody;
  readonly cache: CacheKeeper<Member>;
  readonly pins: Pins;
  readonly cleaner: Cleaner;
}

/** Nothing is started. */
export function makeRetention(
  components: RetentionComponents,
  init: { readonly disk: () => Promise<DiskFree> },
): Retention {
  const { index, store, members, client, room, active, clock, log, random } = components;
  const pins = new Pins(components);
  const custody = new Custody({ store, book: index.custody, log });
  const cache = new CacheKeeper({
    blobs: index.blobs,
    store,
    disk: init.disk,
    custody,
    members,
    ask: (member, keys, signal) => client.custody(member, keys, signal),
    pinned: (key) => active(key) || pins.has(key),
    refreshPins: () => pins.refresh(),
    room,
    clock,
    log,
    random,
  });
  room.free = (bytes) => cache.freeNow(bytes);
  room.onFull = () => cache.lookSoon();
  const cleaner = new Cleaner({
    manifests: index.manifests,
    leftovers: index.leftovers,
    pins,
    onRemoved: components.onCleaned,
    clock,
    log,
    random,
  });
  return { custody, cache, pins, cleaner };
}
