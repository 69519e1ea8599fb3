/** What takes bundles in and gives them out, tied to the rooms that it needs. */
import type { Clock } from '../../shared/clock.ts';
import type { BlobKey, Digest, NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { Platform } from '../../shared/registry/platform.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import { KEPT_FREE_SHARE } from '../bundles/constants.ts';
import { BundleExporter } from '../bundles/exporter.ts';
import { BundleImporter } from '../bundles/importer.ts';
import { NameBook } from '../bundles/name-book.ts';
import type { HeldInPool } from '../bundles/types.ts';
import type { AgentIdentity } from '../identity/agent-identity.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { BundleDesk } from '../ops/bundles.ts';
import type { Members } from '../peers/members.ts';
import type { PeerClient } from '../peers/types.ts';
import { parsePlatform } from '../prefetch/platform.ts';
import type { PieceStore } from '../store/piece-store.ts';
import { askAll } from '../transfer/ask-all.ts';
import { ASK_WAIT_MS } from '../transfer/constants.ts';
import type { Transfer } from './transfer.ts';

interface BundleParts {
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  readonly transfer: Pick<Transfer, 'content' | 'manifests' | 'provenance' | 'words'>;
  readonly client: Pick<PeerClient, 'holdings'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly identity: AgentIdentity | undefined;
  readonly disk: () => Promise<{ readonly totalBytes: number; readonly freeBytes: number }>;
  /** Bytes that the store may hold at most. */
  readonly quota: () => number | undefined;
  readonly active: (key: BlobKey) => boolean;
  readonly events: EventSink;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Bundles {
  readonly importer: BundleImporter;
  readonly desk: BundleDesk;
}

/** Nothing is started. */
export function makeBundles(
  components: BundleParts,
  init: { readonly node: NodeName; readonly platform: Platform },
): Bundles {
  const { index, store, transfer, identity, disk, quota, active, events, clock, log } = components;
  const { content, manifests, provenance, words } = transfer;
  // Without a certificate it cannot judge others' either.
  const trust = identity?.enrolled === true ? identity : undefined;
  const importer = new BundleImporter(
    {
      store,
      documents: index.documents,
      provenance: index.provenance,
      names: new NameBook({ index, store, manifests, provenance, words, trust, clock }),
      words,
      trust,
      heldInPool: heldInPool(components),
      room: async () => {
        const { totalBytes, freeBytes } = await disk();
        return Math.min(freeBytes - totalBytes * KEPT_FREE_SHARE, quota() ?? Number.POSITIVE_INFINITY);
      },
      active,
      events,
      log,
    },
    { self: init.node, platform: init.platform },
  );
  const exporter = new BundleExporter({ content, store, scope: index.scope, words });
  return {
    importer,
    desk: {
      take: (source, wanted) => importer.take(source, wanted),
      export: ({ platforms, ...wanted }) =>
        exporter.open({
          ...wanted,
          platforms: platforms.length === 0 ? [init.platform] : platforms.map(parsePlatform),
        }),
    },
  };
}

function heldInPool({ client, clock, members, transfer }: BundleParts): HeldInPool {
  return async (digests, name, signal) => {
    const held = new Set<Digest>(transfer.manifests.held(digests, name));
    const missing = digests.filter((digest) => !held.has(digest));
    if (missing.length === 0) return held;
    const answers = await askAll({ clock, members }, members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => client.holdings(member, missing, name, inner),
      enough: () => false,
    });
    for (const { value } of answers) for (const digest of value) held.add(digest);
    return held;
  };
}
