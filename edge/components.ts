import { randomUUID } from 'node:crypto';
import { chmodSync, mkdirSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join, resolve as resolvePath } from 'node:path';
import { type Clock, every, systemClock } from '../shared/clock.ts';
import { describeError, TidepoolError } from '../shared/errors.ts';
import type { BlobKey, PoolName } from '../shared/ids.ts';
import { Lifecycle, type Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import { NameLookup } from '../shared/net/name-lookup.ts';
import { nodeCounters, type RuntimeReport } from '../shared/wire/messages.ts';
import type { Tuning } from '../shared/wire/tuning.ts';
import { takeBootstrap } from './bootstrap-parts.ts';
import { makeBundles } from './bundle-parts.ts';
import { formatHostPort } from './config/addresses.ts';
import { makeSharedContent } from './content-parts.ts';
import { JobAccounts } from './identity/job-accounts.ts';
import { openIdentity, requireWay } from './identity/open-identity.ts';
import { openIndex } from './index/sqlite-index.ts';
import { Mirror } from './mirror/mirror.ts';
import { ADMIN_SOCKET } from './ops/admin-socket.ts';
import { OpsServer } from './ops/ops-server.ts';
import { HttpRegistryOrigin } from './origin/http-registry-origin.ts';
import { Beacons } from './peers/beacon.ts';
import { HttpPeerClient } from './peers/client.ts';
import { Members } from './peers/members.ts';
import { PeerServer } from './peers/server.ts';
import { TrustGossip } from './peers/trust-gossip.ts';
import { makePinKeeper } from './pin-parts.ts';
import { formatPlatform, hostPlatform } from './prefetch/platform.ts';
import { PrefetchRunner } from './prefetch/prefetch-runner.ts';
import { WanAllowance } from './prefetch/wan-allowance.ts';
import { diskOf } from './retention/disk.ts';
import type { DiskFree } from './retention/pressure.ts';
import { makeRetention, makeRoom } from './retention-parts.ts';
import { adviseContainerd } from './runtime/containerd/advice.ts';
import { FallbackKeeper } from './runtime/containerd/fallback-keeper.ts';
import { SELF_TEST_REGISTRY } from './runtime/cri/constants.ts';
import { CriRuntime, type RuntimeState } from './runtime/cri/cri-runtime.ts';
import { Witness } from './runtime/cri/witness.ts';
import type { AgentSettings } from './settings.ts';
import { agentSources } from './sources.ts';
import type { StoreIo } from './store/io.ts';
import { makeStore } from './store-parts.ts';
import { EventOutbox } from './sync/events.ts';
import { HubLink } from './sync/hub-link.ts';
import { quorumOf } from './transfer/tags.ts';
import { makeTransfer } from './transfer-parts.ts';
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
  const bootId = randomUUID();
  const events = new EventOutbox({ table: index.outbox, clock, log: logOf('events') }, { boot: bootId });
  const retentionLog = logOf('retention');
  const { disk } = surroundings;
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

  const client = new HttpPeerClient({ store, clock, identity }, { node, pool, address: peerAddress });
  const members = new Members(
    { client, documents: index.documents, clock, log: logOf('peers'), events },
    { self: node, pool, peers: settings.peers.map(formatHostPort), certified: identity !== undefined },
  );

  const beacons =
    identity?.enrolled !== true || settings.trust.beacon === undefined
      ? undefined
      : new Beacons(
          { identity, members, clock, log: logOf('beacons'), random },
          {
            node,
            pool,
            address: peerAddress,
            local: settings.address,
            group: settings.trust.beacon,
            boot: () => identity.nextBoot(),
          },
        );

  const gossip =
    identity === undefined
      ? undefined
      : new TrustGossip({
          members,
          client,
          take: (signed) => identity.takeSigned(signed),
          clock,
          log: logOf('gossip'),
          random,
        });

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
    { disk: disk?.use ?? (() => diskOf(settings.data)) },
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
  const { criSocket, ...host } = settings.runtime;
  const runtime = new CriRuntime(
    {
      clock,
      log: logOf('runtime'),
      random,
      witness,
      connect: async (socket) => {
        const { GrpcConnection } = await import('./runtime/cri/grpc-connection.ts');
        return new GrpcConnection(socket);
      },
      advise: (name) =>
        adviseContainerd(
          { ...host, registry: SELF_TEST_REGISTRY, mirror: `http://${formatHostPort(settings.mirror)}` },
          name,
        ),
      onChange: (state) => link.report({ runtime: runtimeReportOf(state) }),
    },
    { socket: criSocket ?? undefined },
  );
  const fallback = new FallbackKeeper(
    {
      clock,
      log: logOf('containerd'),
      onChange: () => link.report({ tuningProblems: tuner.problems }),
    },
    host,
  );
  const allowance = new WanAllowance({ documents, members, clock, log: logOf('allowance') });
  gate.setPrefetchGuard(allowance);
  const prefetch = new PrefetchRunner(
    {
      content,
      allowance,
      runtime,
      accounts:
        identity === undefined || given.trust.enrollUrl === undefined
          ? undefined
          : new JobAccounts(
              { clock, identity },
              { node, url: given.trust.enrollUrl, localAddress: given.sourceAddress },
            ),
      documents,
      clock,
      log: logOf('prefetch'),
      report: (progress) => link.report({ prefetches: [progress] }),
    },
    { node, platform, random },
  );

  const pinKeeper = makePinKeeper(
    { documents, images: () => prefetch.images(), clock, log: logOf('pins'), random },
    { socket: criSocket ?? undefined },
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
      disk: disk?.use ?? (() => diskOf(settings.data)),
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

function runtimeReportOf({ mirror, runtime, reason, fix }: RuntimeState): RuntimeReport {
  return {
    mirror,
    ...(runtime === null ? {} : { runtime: runtime.slice(0, 200) }),
    ...(reason === null ? {} : { reason: reason.slice(0, 1_000) }),
    ...(fix === null ? {} : { fix: fix.slice(0, 1_000) }),
  };
}

/** A part that is there from its making on, and only has an end. */
function closing(name: string, close: () => void | Promise<void>): Startable {
  return {
    name,
    start: () => Promise.resolve(),
    stop: async () => {
      await close();
    },
  };
}

/** Something that is done at the start, and again and again until the end. */
function repeating(name: string, clock: Clock, ms: number, act: () => void): Startable {
  let cancel: () => void = () => undefined;
  return {
    name,
    start: async () => {
      act();
      cancel = every(clock, ms, act);
    },
    stop: async () => cancel(),
  };
}

/** Pieces and accounts of others are nobody's but the agent's. */
function makeDataDirectory(path: string): void {
  try {
    // One that was there before us, as Kubernetes makes a hostPath, is open to all.
    if (mkdirSync(path, { recursive: true, mode: 0o700 }) === undefined) chmodSync(path, 0o700);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `cannot use the data directory ${path}: ${describeError(error)}; set another with --data`,
      { cause: error },
    );
  }
}
