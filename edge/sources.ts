import { resolve } from 'node:path';
import { Bitmap } from '../shared/bitmap.ts';
import type { Clock } from '../shared/clock.ts';
import { describeError, TidepoolError } from '../shared/errors.ts';
import { layoutOf } from '../shared/pieces.ts';
import { withoutSecrets } from '../shared/secret.ts';
import { formatHostPort } from './config/addresses.ts';
import type { IdentityStatus } from './identity/types.ts';
import type { SqliteIndex } from './index/sqlite-index.ts';
import type { Mirror } from './mirror/mirror.ts';
import { ADMIN_SOCKET } from './ops/admin-socket.ts';
import type {
  AgentStatus,
  BlobListView,
  BreakerStatus,
  BundleStatus,
  CacheStatus,
  CounterView,
  EventStatus,
  HealthCheck,
  LinkStatus,
  RuntimeStatus,
} from './ops/api.ts';
import type { OpsSources } from './ops/sources.ts';
import type { StoreHealth } from './ops/store-health.ts';
import type { HttpRegistryOrigin } from './origin/http-registry-origin.ts';
import type { SharedContent } from './parts/content.ts';
import type { BeaconCounts } from './peers/beacon-guard.ts';
import type { Members } from './peers/members.ts';
import type { PeerServer } from './peers/server.ts';
import type { KeptImages } from './prefetch/kept-images.ts';
import { formatPlatform, type Platform, parsePlatform } from './prefetch/platform.ts';
import type { PrefetchRunner } from './prefetch/prefetch-runner.ts';
import { pullImage } from './prefetch/pull-image.ts';
import type { CacheKeeper, CacheState } from './retention/cache-keeper.ts';
import type { Room } from './retention/room.ts';
import type { CriRuntime } from './runtime/cri/cri-runtime.ts';
import type { AgentSettings } from './settings.ts';
import type { PieceStore } from './store/piece-store.ts';
import type { Manifests } from './transfer/manifests.ts';
import type { TransferStats } from './transfer/stats.ts';
import type { Swarms } from './transfer/swarms.ts';
import { type Content, PRIORITY } from './transfer/types.ts';
import type { Tuner } from './tuner.ts';
import { VERSION } from './version.ts';

export interface SourceParts {
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  readonly origin: HttpRegistryOrigin;
  readonly members: Members;
  readonly swarms: Swarms;
  readonly manifests: Manifests;
  readonly stats: TransferStats;
  readonly content: Content;
  readonly mirror: Mirror;
  readonly peerServer: PeerServer;
  readonly prefetch: PrefetchRunner;
  readonly kept: Pick<KeptImages, 'view'>;
  readonly runtime: CriRuntime;
  readonly tuner: Tuner;
  readonly cache: Pick<CacheKeeper, 'state'>;
  /** Where containerd's own content is shared. */
  readonly shared?: Pick<SharedContent, 'status'> | undefined;
  readonly room: Pick<Room, 'state'>;
  readonly events: { readonly state: EventStatus };
  readonly clock: Clock;
}

/** Of hosts that do not answer. */
const MAX_BREAKERS_SHOWN = 100;

export interface SourceInit {
  /** What was brought in as files. */
  readonly bundles: () => BundleStatus;
  readonly settings: AgentSettings;
  readonly platform: Platform;
  readonly bootId: string;
  /** Null with `--insecure`. */
  readonly identity: () => IdentityStatus | null;
  /** Null where none are sent. */
  readonly beacons: () => BeaconCounts | null;
  /** Null where no hub is set. */
  readonly hub: () => LinkStatus | null;
  readonly store: () => StoreHealth;
}

/** What ops and reports are told, read from the parts when asked. */
export function agentSources(parts: SourceParts, init: SourceInit): OpsSources & { counters(): CounterView } {
  const { clock, content, index, members, origin, prefetch, swarms } = parts;
  const { settings, platform } = init;
  const startedAt = clock.now();
  const counters = (): CounterView => countersOf(parts);
  const runtime = (): RuntimeStatus => ({ ...parts.runtime.state, present: parts.runtime.present });
  return {
    counters,
    health: () => [
      check('index', () => {
        index.documents.get('health');
        return 'answers';
      }),
      check('mirror', () => `listens on ${formatHostPort(hostPortOf(parts.mirror.address()))}`),
      check('peer server', () => `listens on ${formatHostPort(hostPortOf(parts.peerServer.address()))}`),
    ],
    // A node that has lost hub, neighbours and registries still serves what it holds: none of them makes it unready.
    readiness: () => [],
    status: (): AgentStatus => ({
      node: settings.node,
      pool: settings.pool,
      address: settings.address,
      version: VERSION,
      platform: formatPlatform(platform),
      bootId: init.bootId,
      startedAt,
      adminSocket: resolve(settings.data, ADMIN_SOCKET),
      mirror: formatHostPort(hostPortOf(parts.mirror.address())),
      peers: formatHostPort(hostPortOf(parts.peerServer.address())),
      identity: init.identity(),
      beacons: init.beacons(),
      hub: shownLink(init.hub()),
      tuningHash: parts.tuner.hash ?? null,
      store: init.store(),
      ...(parts.shared === undefined ? {} : { content: parts.shared.status() }),
      bundles: init.bundles(),
      cache: {
        ...cacheOf(parts.cache.state),
        ...parts.room.state,
        passedBytes: parts.stats.passedBytes,
      },
      members: members.view(),
      registries: Object.entries(settings.registries).map(([registry, { url }]) => ({
        registry,
        url,
        downSince: origin.downSince(registry) ?? null,
      })),
      breakers: breakersOf(origin, clock),
      events: parts.events.state,
      runtime: runtime(),
      counters: counters(),
      transfers: swarms.active().map(({ key, target, stored, counts, startedAt: begun }) => ({
        digest: key,
        registry: target.registry,
        repository: target.repository,
        size: stored.layout.size,
        pieces: stored.layout.pieceCount,
        have: stored.have.count,
        ...counts,
        seconds: (clock.mono() - begun) / 1000,
      })),
      prefetches: prefetch.progress(),
      kept: parts.kept.view(),
    }),
    selfTest: () => parts.runtime.selfTest().then(runtime),
    blobs: (limit) => listBlobs(parts, limit),
    pull: async ({ image, platforms, credentials, runtime: wanted, onProgress }, signal) => {
      const pulled = await pullImage(
        { content },
        {
          image,
          platforms: platforms.length === 0 ? [platform] : platforms.map(parsePlatform),
          credentials,
          // Somebody waits for it, as for a runtime's pull.
          priority: PRIORITY.onDemand,
          signal,
          onProgress,
        },
      );
      if (!wanted) return pulled;
      const there = await parts.runtime.pull(image, signal);
      if (there !== undefined) return { ...pulled, imageId: there.imageId };
      throw new TidepoolError(
        'RUNTIME_ERROR',
        `the image is in this node's store, but there is no CRI socket ${parts.runtime.state.socket ?? '(switched off)'} to bring it to; set one with --cri`,
      );
    },
    manifest: ({ image, credentials }, signal) =>
      content.manifest({
        registry: image.registry,
        repository: image.repository,
        reference: image.digest ?? image.tag ?? 'latest',
        credentials,
        signal,
      }),
  };
}

function breakersOf(origin: Pick<HttpRegistryOrigin, 'openBreakers'>, clock: Clock): BreakerStatus[] {
  return origin
    .openBreakers()
    .slice(0, MAX_BREAKERS_SHOWN)
    .map(({ registry, origin: host, since, why, probing, retryInMs }) => ({
      ...{ registry, origin: host, since, why: withoutSecrets(why) },
      probeAt: probing ? null : clock.now() + retryInMs,
    }));
}

/** A broker's URL may hold an account. */
function shownLink(link: LinkStatus | null): LinkStatus | null {
  if (link === null) return null;
  const { lastError, urls, state = { kind: 'none' } } = link;
  return {
    ...link,
    state: {
      ...state,
      ...(state.url === undefined ? {} : { url: withoutSecrets(state.url) }),
      ...(state.why === undefined ? {} : { why: withoutSecrets(state.why) }),
    },
    urls: urls.map(withoutSecrets),
    lastError: lastError === null ? null : withoutSecrets(lastError),
  };
}

function countersOf({ stats, mirror, manifests, store }: SourceParts): CounterView {
  const { bytes: storedBytes, blobs } = store.usage();
  return {
    wanBytes: stats.wanBytes,
    peerBytes: stats.peerBytes,
    servedPeerBytes: stats.servedPeerBytes,
    servedRuntimeBytes: mirror.stats.snapshot().bytes,
    storedBytes,
    blobs,
    originPieces: stats.originPieces,
    peerPieces: stats.peerPieces,
    hedges: stats.hedges,
    corruptPieces: stats.corruptPieces,
    digestMismatches: stats.digestMismatches,
    staleAnswers: manifests.staleAnswers,
  };
}

function listBlobs({ index, store }: SourceParts, limit: number): BlobListView {
  const blobs: BlobListView['blobs'][number][] = [];
  for (const { key, size, pieceSize, whole, bitmap } of index.blobs.list()) {
    if (blobs.length >= limit) break;
    const { pieceCount: pieces } = layoutOf(size, pieceSize);
    const have = whole || bitmap === undefined ? pieces : new Bitmap(pieces, bitmap).count;
    blobs.push({ digest: key, size, pieces, have, whole });
  }
  return { total: store.usage().blobs, blobs };
}

function hostPortOf({ address, port }: { address: string; port: number }) {
  return { host: address, port };
}

function check(name: string, probe: () => string): HealthCheck {
  try {
    return { name, ok: true, detail: probe() };
  } catch (error) {
    return { name, ok: false, detail: describeError(error) };
  }
}

function cacheOf(state: CacheState): CacheStatus {
  const { quotaBytes, minReplicas, evictedBlobs, evictedBytes, lastCopies, shortBytes } = state;
  return { quota: quotaBytes ?? null, minReplicas, evictedBlobs, evictedBytes, lastCopies, shortBytes };
}
