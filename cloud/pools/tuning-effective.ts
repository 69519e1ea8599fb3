import { createHash } from 'node:crypto';
import { type PoolName, parsePoolName, quote } from '../../shared/ids.ts';
import { rank } from '../../shared/rendezvous.ts';
import type { TuningMessage, TuningSettings } from '../../shared/wire/messages/tuning.ts';
import { mergeTuning } from '../../shared/wire/tuning.ts';
import { type Member, POOL_LABEL } from './membership.ts';
import { type Labels, matchesAll } from './selectors.ts';
import type { TuningTable } from './tuning-parse.ts';

/** A pool's tuning before the publisher gives it epoch and version. */
export type PoolTuning = Pick<TuningMessage, 'hash' | 'settings' | 'nodes' | 'gateways'> &
  Partial<Pick<TuningMessage, 'downstreams'>>;

/** All settings that hold for a node of these labels: every entry that selects it, later ones winning field by field. */
export function settingsFor(table: TuningTable, labels: Labels): TuningSettings {
  const layers: TuningSettings[] = [];
  for (const entries of Object.values(table)) {
    for (const { match, settings } of entries) if (matchesAll(match, labels)) layers.push(settings);
  }
  return mergeTuning(...layers);
}

/** Members of an upstream pool that one pool is told of; it asks them in turn. */
const UPSTREAM_MEMBERS = 8;
/** Addresses of upstream pools that an agent is told. */
const MAX_UPSTREAM = 32;

type Pools = ReadonlyMap<PoolName, readonly Member[]>;

/**
 * A pool's message: what its members have in common, and what each adds. Merging `nodes[n]` over `settings` gives
 * exactly the node's own settings; the value most members have is the common one, so that the message stays small.
 * @param pools where the addresses of upstream pools are found
 */
export function poolTuning(
  table: TuningTable,
  pool: PoolName,
  members: readonly Member[],
  pools: Pools = new Map(),
): PoolTuning {
  return workOut(table, pool, members, pools).tuning;
}

/** {@link poolTuning}, and what a person has to mend about it. */
export function workOut(
  table: TuningTable,
  pool: PoolName,
  members: readonly Member[],
  pools: Pools,
  downstreams: readonly PoolName[] = [],
): { readonly tuning: PoolTuning; readonly problems: readonly string[] } {
  const problems = new Set<string>();
  const reach = (settings: TuningSettings): TuningSettings =>
    withUpstream(settings, pool, pools, (problem) => problems.add(problem));
  // An empty pool is tuned too: its first agent reads this before the hub has heard of it.
  const own = members.map(({ node, labels }) => ({
    node,
    labels,
    settings: reach(settingsFor(table, labels)),
  }));
  const settings =
    own.length === 0
      ? reach(settingsFor(table, { [POOL_LABEL]: pool }))
      : (common(own.map((each) => each.settings)) as TuningSettings);
  const nodes: Record<string, TuningSettings> = {};
  for (const each of own) {
    const rest = difference(each.settings, settings);
    if (rest !== undefined) nodes[each.node] = rest as TuningSettings;
  }
  const gateways = own.flatMap((each) => {
    const selector = each.settings.swarm?.gateways;
    return selector !== undefined && matchesAll(selector, each.labels) ? [each.node] : [];
  });
  const body = {
    settings,
    nodes,
    gateways,
    ...(downstreams.length === 0 ? {} : { downstreams: [...downstreams] }),
  };
  const hash = createHash('sha256').update(canonical(body)).digest('hex').slice(0, 32);
  if (own.length > 0 && gateways.length === 0 && wantsGateways(body)) {
    problems.add(`no node of pool ${pool} fits the gateways selector; every node goes over the WAN`);
  }
  return { tuning: { hash, ...body }, problems: [...problems] };
}

/**
 * By pool, those that name it as their upstream, by its name or by an address of one of its members: whom its members are
 * to let read.
 */
export function downstreamsOf(table: TuningTable, pools: Pools): ReadonlyMap<PoolName, readonly PoolName[]> {
  const byAddress = new Map<string, PoolName>();
  for (const [pool, members] of pools) {
    for (const { address } of members) if (address !== undefined) byAddress.set(address, pool);
  }
  const found = new Map<PoolName, Set<PoolName>>();
  for (const [pool, members] of pools) {
    const labels = members.length === 0 ? [{ [POOL_LABEL]: pool }] : members.map((each) => each.labels);
    for (const named of new Set(labels.flatMap((each) => settingsFor(table, each).swarm?.upstream ?? []))) {
      const above = isAddress(named) ? byAddress.get(named) : parsePoolName(named);
      if (above === undefined || above === pool) continue;
      found.set(above, (found.get(above) ?? new Set()).add(pool));
    }
  }
  return new Map([...found].map(([pool, below]) => [pool, [...below].sort()]));
}

/** True when some member's tuning names gateways. */
export function wantsGateways({ settings, nodes }: Pick<PoolTuning, 'settings' | 'nodes'>): boolean {
  return [settings, ...Object.values(nodes)].some((each) => each.swarm?.gateways !== undefined);
}

/** Whether images that workloads name are prefetched in this pool: some member's tuning says so. */
export function followsWorkloads({ settings, nodes }: Pick<PoolTuning, 'settings' | 'nodes'>): boolean {
  return [settings, ...Object.values(nodes)].some((each) => each.prefetch?.followWorkloads === true);
}

/** Upstream pools by their members' addresses: agents know no other pool. Each pool is sent to members of its own choice. */
function withUpstream(
  settings: TuningSettings,
  pool: PoolName,
  pools: Pools,
  tell: (problem: string) => void,
): TuningSettings {
  const named = settings.swarm?.upstream;
  if (named === undefined || named.every(isAddress)) return settings;
  const addresses = named.flatMap((each) => {
    if (isAddress(each)) return [each];
    const other = pools.get(parsePoolName(each));
    if (each === pool) tell(`pool ${pool} is its own upstream pool; it goes to the origin`);
    else if (other === undefined) tell(`upstream pool ${quote(each)} of pool ${pool} is unknown`);
    else {
      const known = other.flatMap(({ node, address }) =>
        address === undefined ? [] : [{ node, address, weight: 1 }],
      );
      if (known.length === 0) tell(`no node of ${each}, the upstream pool of ${pool}, has an address yet`);
      return rank(known, pool)
        .slice(0, UPSTREAM_MEMBERS)
        .map(({ address }) => address);
    }
    return [];
  });
  return { ...settings, swarm: { ...settings.swarm, upstream: addresses.slice(0, MAX_UPSTREAM) } };
}

/** Names of pools have no colon. */
function isAddress(text: string): boolean {
  return text.includes(':');
}

/** JSON with sorted keys: equal values give equal text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) =>
    isPlain(each) ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1))) : each,
  );
}

/** Per field: the value most of them have, when all of them have one. A lack cannot be said on top of a value. */
function common(all: readonly Readonly<Record<string, unknown>>[]): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(all[0] ?? {})) {
    const values = all.map((each) => each[key]);
    if (values.some((value) => value === undefined)) continue;
    const plain = values.filter(isPlain);
    if (plain.length === values.length) {
      const inner = common(plain);
      if (Object.keys(inner).length > 0) result[key] = inner;
    } else {
      result[key] = mostFrequent(values);
    }
  }
  return result;
}

/** What `over` has and `base` has not, or has otherwise; undefined when nothing. */
function difference(
  over: Readonly<Record<string, unknown>>,
  base: Readonly<Record<string, unknown>>,
): Record<string, unknown> | undefined {
  const result: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(over)) {
    const before = base[key];
    if (isPlain(value) && (isPlain(before) || before === undefined)) {
      const inner = difference(value, before ?? {});
      if (inner !== undefined) result[key] = inner;
    } else if (canonical(value) !== canonical(before)) {
      result[key] = value;
    }
  }
  return Object.keys(result).length === 0 ? undefined : result;
}

function mostFrequent(values: readonly unknown[]): unknown {
  const counts = new Map<string, { count: number; readonly value: unknown }>();
  for (const value of values) {
    const seen = counts.get(canonical(value)) ?? { count: 0, value };
    seen.count++;
    counts.set(canonical(value), seen);
  }
  return [...counts.values()].reduce((best, each) => (each.count > best.count ? each : best)).value;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
