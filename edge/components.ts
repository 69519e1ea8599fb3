import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { join, resolve as resolvePath } from 'node:path';
import { type Clock, systemClock } from '../shared/clock.ts';
import type { TidepoolError } from '../shared/errors.ts';
import type { BlobKey, PoolName } from '../shared/ids.ts';
import { Lifecycle } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import { NameLookup } from '../shared/net/name-lookup.ts';
import { nodeCounters } from '../shared/wire/messages/report.ts';
import type { Tuning } from '../shared/wire/tuning.ts';
import { formatHostPort } from './config/addresses.ts';
import { openIdentity, requireWay } from './identity/open-identity.ts';
import { openIndex } from './index/sqlite-index.ts';
import { Mirror } from './mirror/mirror.ts';
import { ADMIN_SOCKET } from './ops/admin-socket.ts';
import { OpsServer } from './ops/ops-server.ts';
import { HttpRegistryOrigin } from './origin/http-registry-origin.ts';
import { takeBootstrap } from './parts/bootstrap.ts';
import { makeBundles } from './parts/bundles.ts';
import { makeSharedContent } from './parts/content.ts';
import { makeDataDirectory } from './parts/data-directory.ts';
import { makeNeighbours } from './parts/neighbours.ts';
import { makePrefetch } from './parts/prefetch.ts';
import { makeRetention, makeRoom } from './parts/retention.ts';
import { makeRuntime } from './parts/runtime.ts';
import { closing, repeating } from './parts/startables.ts';
import { makeStore } from './parts/store.ts';
import { makeTransfer } from './parts/transfer.ts';
import { PeerServer } from './peers/server.ts';
import { formatPlatform, hostPlatform } from './prefetch/platform.ts';
import { diskOf } from './retention/disk.ts';
import type { DiskFree } from './retention/pressure.ts';
import { Witness } from './runtime/cri/witness.ts';
import type { AgentSettings } from './settings.ts';
import { agentSources } from './sources.ts';
import type { StoreIo } from './store/io.ts';
import { EventOutbox } from './sync/events.ts';
import { HubLink } from './sync/hub-link.ts';
import { quorumOf } from './transfer/tags.ts';
import { Tuner } from './tuner.ts';
import { VERSION } from './version.ts';

export interface Agent {
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly pool: PoolName;
  /** Whether it has a certificate; null where it needs none. */
  readonly enrolled: boolean | null;
  /** Where its servers listen, once started. */
  readonly addresses: {
    readonly mirror: AddressInfo;
    readonly peers: AddressInfo;
    readonly ops: AddressInfo;
  };
}

export interface AgentSurroundings {
  readonly log: Logger;
  readonly clock?: Clock;
  /** Where blobs are kept; the disk that the data directory is on, unless told otherwise. */
  readonly disk?: { readonly io: StoreIo; readonly use: () => Promise<DiskFree> };
  /** The hub says that this node is in another pool; called again and again while it does not follow. */
  readonly onPool?: (pool: PoolName) => void;
  /** This node has its first certificate, or one that names another pool: the agent has to be made anew. */
  readonly onIdentity?: (pool: PoolName) => void;
  /** The hub does not let this node in, and asking again would not change that. */
  readonly onRefused?: (error: TidepoolError) => void;
  /** The index is damaged: the agent has to be made anew, which begins with another index. */
  readonly onDamaged?: (error: TidepoolError) => void;
}

const ORIGIN_CONNECTIONS = 16;
/** How often the hub is told what this node has moved and holds. */
const COUNTERS_MS = 3_000;

/**
 * Makes every part of an agent and ties them together; nothing else constructs across rooms.
 * @throws TidepoolError INVALID_CONFIG when the data directory or a registry's settings cannot be used
 */
export function createAgent(given: AgentSettings, surroundings: AgentSurroundings): Agent {
  const { log, clock = systemClock } = surroundings;
  const { node, tuning: base } = given;
  const random = Math.random;
  const peerAddress = formatHostPort({ host: given.address, port: given.peerPort });
  const { arm_version: armVersion }: Readonly<Record<string, unknown>> = process.config.variables;
  const platform = hostPlatform(process.arch, armVersion === undefined ? undefined : String(armVersion));
  // A child keeps the level that it was made with: who changes the level has to reach each of them.
  const logs = [log];
  const { level } = log;
  const logOf = (room: string): Logger => {
    const child = log.child({ room });
    logs.push(child);
    return child;
  };

  makeDataDirectory(given.data);
  const identity = given.insecure
    ? undefined
    : openIdentity(
        given,
        {
          clock,
          log: logOf('identity'),
          random,
          onRefused: (error) => surroundings.onRefused?.(error),
        },
        formatPlatform(platform),
      );
  if (identity !== undefined) requireWay(identity, given);
  // The certificate says which pool this is. Without one there is no hub to speak to, and no neighbour.
  const pool = identity?.pool ?? given.pool;
  const isStranger = identity?.enrolled === false;
  const settings = { ...given, pool, hub: isStranger ? [] : given.hub };
  identity?.onChange(() => {
    if (isStranger || identity.pool !== pool) surroundings.onIdentity?.(identity.pool ?? pool);
  });
  const index = openIndex(join(settings.data, 'index.db'), { log: logOf('index') });
  index.onDamaged = (error) => surroundings.onDamaged?.(error);
  const bootId = randomUUID();
  const events = new EventOutbox({ table: index.outbox, clock, log: logOf('events') }, { boot: bootId });
  const retentionLog = logOf('retention');
  const { disk } = surroundings;
  const diskUse = disk?.use ?? (() => diskOf(settings.data));
  const room = makeRoom({ clock, log: retentionLog, events }, settings);
  const { store, upkeep, health } = makeStore(
    { index, events, clock, log: logOf('store'), room, ...(disk === undefined ? {} : { io: disk.io }) },
    { node, directory: settings.data },
  );
  const names = new NameLookup({ clock });
  const origin = new HttpRegistryOrigin(
    { clock, log: logOf('origin') },
    {
      registries: settings.registries,
      openRegistries: settings.openRegistries,
      allowAddresses: settings.allowAddresses,
      resolve: names.resolve,
      localAddress: settings.sourceAddress,
      connections: ORIGIN_CONNECTIONS,
    },
  );

  const { client, members, beacons, gossip } = makeNeighbours(
    { index, store, identity, events, clock, logOf, random },
    { node, pool, peerAddress, settings },
  );

  const shared = makeSharedContent(
    { index, own: store, clock, log: logOf('content') },
    { node, settings: settings.runtime },
  );
  let weight = 1;
  const transfer = makeTransfer(
    {
      index,
      store: shared?.store ?? store,
      own: store,
      origin,
      client,
      members,
      clock,
      log: logOf('transfer'),
      random,
      room,
      events,
      // Without a certificate it cannot judge others' either.
      trust: isStranger ? undefined : identity,
    },
    { node, address: peerAddress, connections: ORIGIN_CONNECTIONS, weight: () => weight },
  );
  const { stats, gate, upstream, swarms, budget, watch, manifests, grants, repositories, content, service } =
    transfer;
  shared?.join(transfer);

  const active = (key: BlobKey): boolean => swarms.get(key)?.active === true;
  const inUse = (key: BlobKey): boolean => active(key) || bundles.importer.pins(key);
  const { custody, cache, cleaner } = makeRetention(
    {
      ...{ index, store, members, client, room, active: inUse, clock, log: retentionLog, random },
      prefetched: () => prefetch.images(),
      inUse: (signal) => runtime.imagesInUse(signal),
      onCleaned: () => transfer.forget(),
    },
    { disk: diskUse },
  );
  const peerServer = new PeerServer(
    {
      service,
      stats,
      clock,
      log: logOf('peers'),
      identity,
      custody,
      signedTrust: identity && (() => identity.signedTrust()),
    },
    { host: settings.address, port: settings.peerPort },
  );
  const witness = new Witness();
  const mirror = new Mirror(
    { content, log: logOf('mirror'), clock },
    {
      ...settings.mirror,
      defaultRegistry: settings.defaultRegistry,
      guarded: !settings.insecure,
      onAsked: (asked) => witness.saw(asked),
    },
  );
  const { documents } = index;
  const link = new HubLink(
    { documents, clock, log: logOf('sync'), random, identity, events, lookup: names.lookup },
    {
      urls: settings.hub,
      broker: settings.hubTrust,
      node,
      pool,
      bootId,
      address: peerAddress,
      version: VERSION,
      platform: formatPlatform(platform),
      localAddress: settings.sourceAddress,
    },
  );
  const { runtime, fallback } = makeRuntime(
    {
      clock,
      logOf,
      random,
      witness,
      onReport: (report) => link.report({ runtime: report }),
      onProblems: () => link.report({ tuningProblems: tuner.problems }),
    },
    { settings },
  );
  const { allowance, prefetch, kept, pinKeeper } = makePrefetch(
    {
      ...{ index, transfer, members, runtime, identity, clock, logOf, random },
      room,
      disk: diskUse,
      hubTime: () => link.hubTime,
      onProgress: (progress) => link.report({ prefetches: [progress] }),
    },
    { platform, settings: given },
  );

  const tuner = new Tuner(
    {
      log: logOf('tuning'),
      apply: (tuning: Tuning, gateways, downstreams) => {
        ({ weight } = tuning.swarm);
        swarms.configure({ gateways, weight });
        budget.setCaps(tuning.wan);
        gate.setConnections(tuning.wan.connections);
        peerServer.setUploadRate(tuning.lan.upload);
        peerServer.setDownstreams(downstreams);
        client.setDownloadRate(tuning.lan.download);
        allowance.configure({
          windows: tuning.wan.prefetchWindows,
          dailyBudget: tuning.wan.prefetchDailyBudget,
          timezone: tuning.wan.prefetchTimezone,
          gateways,
        });
        upstream.configure(tuning.swarm.upstream);
        const quorum = quorumOf(tuning.tags.quorum, {
          hub: given.hub.length > 0,
          identity: identity !== undefined,
        });
        manifests.configure({ ...tuning.tags, quorum });
        repositories.configure({ ...tuning.tags, quorum });
        cache.configure(tuning.cache);
        shared?.configure(tuning.cache);
        prefetch.setConcurrency(tuning.prefetch.concurrency);
        fallback.set(tuning.runtime.originFallback);
        for (const each of logs) each.level = tuning.logLevel ?? level;
        return origin.choose(tuning.registries);
      },
      standing: () => fallback.problems,
    },
    { node, base },
  );

  const sources = agentSources(
    {
      index,
      store,
      origin,
      members,
      swarms,
      manifests,
      stats,
      content,
      mirror,
      peerServer,
      prefetch,
      kept,
      runtime,
      tuner,
      events,
      cache,
      room,
      shared,
      clock,
    },
    {
      settings,
      platform,
      bootId,
      bundles: () => bundles.importer.state,
      identity: () => identity?.status() ?? null,
      beacons: () => beacons?.counts ?? null,
      hub: () => (settings.hub.length === 0 ? null : link.state()),
      store: health,
    },
  );
  const bundles = makeBundles(
    {
      index,
      store,
      transfer,
      client,
      members,
      identity,
      disk: diskUse,
      quota: () => cache.state.quotaBytes,
      active,
      events,
      clock,
      log: logOf('bundles'),
    },
    { node, platform },
  );
  const ops = new OpsServer(
    { sources, bundles: bundles.desk, clock, log: logOf('ops') },
    { ...settings.ops, socket: resolvePath(settings.data, ADMIN_SOCKET) },
  );

  if (settings.bootstrap !== undefined) {
    takeBootstrap({ link, identity, events, log: logOf('bootstrap') }, { file: settings.bootstrap, pool });
  }
  // Each of these is told at once what was kept from before: a node that starts without its hub works by that.
  link.onRoster(({ nodes }) => members.setRoster(nodes));
  link.onTuning((message) => {
    const inForce = tuner.set(message);
    link.report({ tuningProblems: tuner.problems, ...(inForce ? { tuningHash: message.hash } : {}) });
  });
  // With a certificate the pool changes by the next one, and not by what a label says.
  if (identity === undefined) link.onPool((pool) => surroundings.onPool?.(pool));
  link.onTrust((message, signed) => identity?.setTrust(message, signed));
  link.onRenew(() => identity?.renewSoon('the hub asks for it'));
  link.onPins((pins) => manifests.setPins(pins));
  link.onPrefetch((jobs) => prefetch.setJobs(jobs));
  link.report({ prefetches: prefetch.progress() });

  events.note({ kind: 'agent-started', key: VERSION });
  if (identity !== undefined) {
    identity.onRevoked = (seen) => events.note({ kind: 'neighbour-revoked', key: seen });
  }

  const lifecycle = new Lifecycle(
    [
      closing('index', () => index.close()),
      ...(identity === undefined ? [] : [identity]),
      store,
      ...upkeep,
      origin,
      closing('peer-client', () => client.close()),
      members,
      allowance,
      swarms,
      budget,
      watch,
      closing('grants', () => grants.close()),
      ...(shared?.parts ?? []),
      peerServer,
      cache,
      cleaner,
      ...(beacons === undefined ? [] : [beacons]),
      ...(gossip === undefined ? [] : [gossip]),
      mirror,
      fallback,
      runtime,
      kept,
      prefetch,
      pinKeeper,
      bundles.importer,
      link,
      repeating('reports', clock, COUNTERS_MS, () =>
        link.report({ counters: nodeCounters.parse(sources.counters()) }),
      ),
      ops,
    ],
    log,
  );
  return {
    pool,
    enrolled: identity === undefined ? null : !isStranger,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    get addresses() {
      return { mirror: mirror.address(), peers: peerServer.address(), ops: ops.address() };
    },
  };
}
