import { Counter, Gauge, Registry } from 'prom-client';
import type { AgentStatus, CounterView, LinkStateView } from './api.ts';
import { contentMetrics } from './content-status.ts';
import { storeMetrics } from './store-health.ts';

const COUNTERS: readonly (readonly [name: string, help: string, of: keyof CounterView])[] = [
  ['tidepool_wan_bytes_total', 'Bytes read from registries over the uplink.', 'wanBytes'],
  ['tidepool_peer_bytes_total', 'Bytes read from neighbours.', 'peerBytes'],
  ['tidepool_served_peer_bytes_total', 'Bytes sent to neighbours.', 'servedPeerBytes'],
  ['tidepool_served_runtime_bytes_total', 'Bytes sent to container runtimes.', 'servedRuntimeBytes'],
  ['tidepool_origin_pieces_total', 'Pieces read from registries.', 'originPieces'],
  ['tidepool_peer_pieces_total', 'Pieces read from neighbours.', 'peerPieces'],
  ['tidepool_hedges_total', 'Pieces fetched past an owner that stood still.', 'hedges'],
  ['tidepool_corrupt_pieces_total', "Pieces that differed from their sender's claim.", 'corruptPieces'],
  ['tidepool_digest_mismatches_total', 'Blobs whose bytes did not match their digest.', 'digestMismatches'],
  [
    'tidepool_stale_answers_total',
    'Tags answered from a record while the registry was out of reach.',
    'staleAnswers',
  ],
];

const LINK_STATES = ['none', 'connecting', 'online', 'offline', 'refused', 'stopped'] as const;
const IDENTITY_STATES = ['waiting', 'good', 'lapsed', 'ended', 'revoked', 'untrusted'] as const;
const MIRROR_STATES = ['yes', 'no', 'not-configured', 'unknown'] as const;

/** Prometheus text from a snapshot of the agent. Nothing is counted here: the parts do, and this reads them. */
export class Metrics {
  readonly #registry = new Registry();
  /** Sets every metric from one snapshot. */
  readonly #take: () => void;

  constructor(read: () => AgentStatus) {
    const registers = [this.#registry];
    const counters = COUNTERS.map(([name, help, of]) => ({
      counter: new Counter({ name, help, registers }),
      of,
    }));
    const gauge = <L extends string = never>(name: string, help: string, labelNames: L[] = []): Gauge<L> =>
      new Gauge({ name, help, labelNames, registers });
    const members = gauge('tidepool_members', 'Neighbours that this node knows, by state.', ['state']);
    const stored = gauge('tidepool_store_bytes', 'Bytes of pieces held.');
    const blobs = gauge('tidepool_store_blobs', 'Blobs of which pieces are held.');
    const evicted = new Counter({
      name: 'tidepool_evicted_bytes_total',
      help: 'Bytes of blobs that were evicted.',
      registers,
    });
    const lastCopies = new Counter({
      name: 'tidepool_evicted_last_copies_total',
      help: 'Evicted blobs that no neighbour had either.',
      registers,
    });
    const short = gauge(
      'tidepool_cache_short_bytes',
      'Bytes over the bounds of the cache that could not be evicted.',
    );
    const takeStore = storeMetrics(registers);
    const full = gauge('tidepool_store_full', '1 while there is no room to keep anything.');
    const passed = new Counter({
      name: 'tidepool_passed_bytes_total',
      help: 'Bytes that runtimes were given without being kept, for want of room.',
      registers,
    });
    const hub = gauge('tidepool_hub_connected', '1 while the hub is connected; absent without a hub.', [
      'urls',
    ]);
    const linkState = gauge('tidepool_hub_link_state', '1 for where the link to the hub stands.', ['state']);
    const linkSince = gauge(
      'tidepool_hub_link_since_seconds',
      'Since when it stands there, seconds since 1970; an outage counts from the end of the last connection.',
    );
    const breakers = gauge(
      'tidepool_origin_breaker_open',
      '1 for each host that no request is sent to for now; absent for those that answer.',
      ['registry', 'origin'],
    );
    const breakersSince = gauge(
      'tidepool_origin_breaker_since_seconds',
      'Since when such a host has not answered, seconds since 1970.',
      ['registry', 'origin'],
    );
    const events = new Counter({
      name: 'tidepool_events_total',
      help: 'What happened on this node that its hub shall hear of, by kind.',
      labelNames: ['kind'],
      registers,
    });
    const waiting = gauge('tidepool_outbox_events', 'Events that the hub has not acknowledged.');
    const lost = gauge('tidepool_outbox_lost_events', 'Of these, those that there was no room for.');
    const certificate = gauge('tidepool_identity_state', '1 for how the certificate of this node stands.', [
      'state',
    ]);
    const certificateEnd = gauge(
      'tidepool_identity_not_after_seconds',
      'End of the certificate, seconds since 1970; absent without one.',
    );
    const lapsed = new Counter({
      name: 'tidepool_lapsed_certificates_total',
      help: 'Times that a certificate past its end was taken within the grace.',
      registers,
    });
    const clockAhead = gauge(
      'tidepool_clock_ahead_seconds',
      'How far the clock of this node was found ahead.',
    );
    const beacons = new Counter({
      name: 'tidepool_beacons_total',
      help: 'Beacons on the LAN, by what became of them.',
      labelNames: ['result'],
      registers,
    });
    const origin = gauge('tidepool_origin_up', '1 while the registry answers.', ['registry']);
    const transfers = gauge('tidepool_active_transfers', 'Blobs in progress.');
    const prefetches = gauge('tidepool_prefetch_jobs', 'Prefetch jobs on this node, by state.', ['state']);
    const kept = gauge(
      'tidepool_prefetch_kept_images',
      'Images that are kept for a time after their prefetch.',
    );
    const mirrorUse = gauge(
      'tidepool_runtime_uses_mirror',
      '1 for what the last self-test of the container runtime found.',
      ['state'],
    );
    const info = gauge('tidepool_agent_info', 'Always 1; the labels tell.', ['node', 'pool', 'version']);
    const takeContent = contentMetrics(registers);
    this.#take = () => {
      const status = read();
      for (const { counter, of } of counters) {
        counter.reset();
        counter.inc(status.counters[of]);
      }
      for (const [state, count] of tally(status.members.map(memberState), ['live', 'silent', 'set-aside'])) {
        members.set({ state }, count);
      }
      stored.set(status.counters.storedBytes);
      blobs.set(status.counters.blobs);
      evicted.reset();
      lastCopies.reset();
      passed.reset();
      takeContent(status.content);
      takeStore(status.store);
      if (status.cache !== undefined) {
        evicted.inc(status.cache.evictedBytes);
        lastCopies.inc(status.cache.lastCopies);
        short.set(status.cache.shortBytes);
        full.set((status.cache.fullSince ?? null) === null ? 0 : 1);
        passed.inc(status.cache.passedBytes ?? 0);
      }
      hub.reset();
      if (status.hub !== null) hub.set({ urls: status.hub.urls.join(',') }, status.hub.connected ? 1 : 0);
      linkState.reset();
      linkSince.reset();
      const link: LinkStateView = status.hub?.state ?? { kind: 'none' };
      for (const state of LINK_STATES) linkState.set({ state }, link.kind === state ? 1 : 0);
      if (link.since !== undefined) linkSince.set(link.since / 1000);
      breakers.reset();
      breakersSince.reset();
      for (const { registry, origin: host, since } of status.breakers ?? []) {
        breakers.set({ registry, origin: host }, 1);
        breakersSince.set({ registry, origin: host }, since / 1000);
      }
      events.reset();
      for (const [kind, count] of Object.entries(status.events?.noted ?? {})) events.inc({ kind }, count);
      waiting.set(status.events?.waiting ?? 0);
      lost.set(status.events?.lost ?? 0);
      certificate.reset();
      certificateEnd.reset();
      lapsed.reset();
      beacons.reset();
      for (const [result, count] of Object.entries(status.beacons ?? {})) beacons.inc({ result }, count);
      const { identity } = status;
      if (identity !== undefined && identity !== null) {
        for (const state of IDENTITY_STATES) certificate.set({ state }, identity.state === state ? 1 : 0);
        if (identity.notAfter !== null) certificateEnd.set(identity.notAfter / 1000);
        lapsed.inc(identity.lapsedAdmitted);
        clockAhead.set(identity.clockAheadMs / 1000);
      }
      origin.reset();
      for (const { registry, downSince } of status.registries)
        origin.set({ registry }, downSince === null ? 1 : 0);
      transfers.set(status.transfers.length);
      const states = status.prefetches.map(({ state }) => state);
      for (const [state, count] of tally(states, ['waiting', 'active', 'succeeded', 'failed', 'skipped'])) {
        prefetches.set({ state }, count);
      }
      kept.set((status.kept ?? []).reduce((sum, { images }) => sum + images.length, 0));
      for (const state of MIRROR_STATES) mirrorUse.set({ state }, status.runtime.mirror === state ? 1 : 0);
      info.set({ node: status.node, pool: status.pool, version: status.version }, 1);
    };
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    this.#take();
    return this.#registry.metrics();
  }
}

function memberState(member: AgentStatus['members'][number]): string {
  if (member.setAside) return 'set-aside';
  return member.live ? 'live' : 'silent';
}

/** Counts, with zeros for what does not occur: a series that vanishes looks like a lost target. */
function tally(values: readonly string[], known: readonly string[]): Map<string, number> {
  const counts = new Map(known.map((state) => [state, 0]));
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
