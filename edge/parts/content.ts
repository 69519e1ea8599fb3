/** What lies in containerd's own content store, as a part of this node's: the rooms of runtime, store and transfer, tied together. */
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { Tuning } from '../../shared/wire/tuning.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { ContentStatus } from '../ops/content-status.ts';
import { MAX_MANIFEST_BYTES } from '../runtime/containerd/content-constants.ts';
import { ContentImages } from '../runtime/containerd/content-images.ts';
import type { ConnectContainerd } from '../runtime/containerd/content-types.ts';
import { ContentWatch } from '../runtime/containerd/content-watch.ts';
import type { RuntimeSettings } from '../settings.ts';
import { BorrowedBlobs } from '../store/borrowed/borrowed-blobs.ts';
import { SharedStore } from '../store/borrowed/shared-store.ts';
import type { PieceStore } from '../store/piece-store.ts';
import { LoadedImages } from '../transfer/loaded-images.ts';
import type { Transfer } from './transfer.ts';

interface SharedContentComponents {
  readonly index: SqliteIndex;
  readonly own: PieceStore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of containerd's own interface; for tests. */
  readonly connect?: ConnectContainerd;
}

/** The store as it is with the runtime's content in it. */
export interface SharedContent {
  readonly store: SharedStore;
  /** To be called once, before anything starts: from then on what is there may be told of. */
  join(transfer: Transfer): void;
  configure(cache: Tuning['cache']): void;
  status(): ContentStatus;
  /** In the order they start, after the store and before who serves from it. */
  readonly parts: readonly Startable[];
}

/** Where containerd keeps its content, by who brought it; the first that is there counts. */
const USUAL_PLACES = [
  '/var/lib/containerd/io.containerd.content.v1.content',
  '/var/lib/rancher/k3s/agent/containerd/io.containerd.content.v1.content',
  '/var/lib/rancher/rke2/agent/containerd/io.containerd.content.v1.content',
  '/var/lib/k0s/containerd/io.containerd.content.v1.content',
  '/var/snap/microk8s/common/var/lib/containerd/io.containerd.content.v1.content',
];

/** Undefined where this node's settings name no content store, or `auto` finds none. */
export function makeSharedContent(
  components: SharedContentComponents,
  init: {
    readonly node: NodeName;
    readonly settings: Pick<RuntimeSettings, 'containerdContent' | 'criSocket' | 'hostRoot'>;
  },
): SharedContent | undefined {
  const { index, own, clock, log } = components;
  const { settings } = init;
  const directory = contentDirectory(settings);
  if (directory === undefined) {
    if (settings.containerdContent !== null) {
      log.warn(
        { tried: USUAL_PLACES, hostRoot: settings.hostRoot },
        "containerd's content store is not where it usually is: it is not shared; name it with --containerd-content",
      );
    }
    return undefined;
  }
  let loaded: LoadedImages | undefined;
  const images = new ContentImages(
    {
      clock,
      log,
      connect:
        components.connect ??
        (async (socket) => {
          const { ContentConnection } = await import('../runtime/containerd/content-connection.ts');
          return new ContentConnection(socket);
        }),
      onImages: async (list, sources, signal) => loaded?.update(list, sources, signal),
    },
    { socket: settings.criSocket ?? undefined },
  );
  const pathOf = (key: BlobKey): string => watch.pathOf(key);
  const borrowed = new BorrowedBlobs(
    { table: index.borrowed, own: (key) => own.get(key), clock, log },
    { self: init.node, pathOf },
  );
  const watch = new ContentWatch(
    { listener: borrowed, clock, log, onChange: () => images.changed() },
    { directory },
  );
  const store = new SharedStore({ own, borrowed, clock, log });
  borrowed.onChecked = (key) => store.heldTwice(key);
  return {
    store,
    join: ({ provenance, manifests, repositories, swarms }) => {
      borrowed.placed = (key) => provenance.place(key);
      // A download answers for its own copy, and stays a while for those who ask late.
      store.busy = (key) => swarms.get(key) !== undefined || index.custody.has(key);
      loaded = new LoadedImages({
        index,
        scope: index.scope,
        manifests,
        provenance,
        gate: repositories,
        present: (digest) => borrowed.has(digest),
        read: (digest) => readSmall(pathOf(digest)),
        clock,
        log,
      });
    },
    configure: ({ shareRuntime, keepTwice }) => {
      borrowed.setSharing(shareRuntime);
      // What is not shared has to be kept here, to be had by neighbours.
      store.setKeepTwice(keepTwice || !shareRuntime);
    },
    status: () => ({
      ...watch.state,
      problem: watch.state.problem ?? images.problem,
      ...borrowed.counts(),
      ...(loaded?.counts ?? { images: 0, sharedImages: 0 }),
      releasedBytes: store.releasedBytes,
    }),
    parts: [borrowed, store, watch, images],
  };
}

function contentDirectory({
  containerdContent,
  hostRoot,
}: Pick<RuntimeSettings, 'containerdContent' | 'hostRoot'>): string | undefined {
  if (containerdContent === null) return undefined;
  if (containerdContent !== 'auto') return containerdContent;
  const places = USUAL_PLACES.map((place) => join(hostRoot, place));
  // containerd 2 makes it with the first content: until then there is only the directory that it will be in.
  return places.find((place) => existsSync(place)) ?? places.find((place) => existsSync(dirname(place)));
}

/** A manifest's bytes; undefined for a file that is gone, or too large to be one. */
async function readSmall(path: string): Promise<Uint8Array | undefined> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      return size > MAX_MANIFEST_BYTES ? undefined : await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
