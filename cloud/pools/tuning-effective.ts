import { createHash } from 'node:crypto';
import type { PoolName } from '../../shared/ids.ts';
import type { TuningMessage, TuningSettings } from '../../shared/wire/messages.ts';
import { mergeTuning } from '../../shared/wire/tuning.ts';
import { type Member, POOL_LABEL } from './membership.ts';
import { type Labels, matchesAll } from './selectors.ts';
import type { TuningTable } from './tuning-parse.ts';

/** A pool's tuning before the publisher gives it epoch and version. */
export type PoolTuning = Pick<TuningMessage, 'hash' | 'settings' | 'nodes' | 'gateways'>;

/** All settings that hold for a node of these labels: every entry that selects it, later ones winning field by field. */
export function settingsFor(table: TuningTable, labels: Labels): TuningSettings {
  const layers: TuningSettings[] = [];
  for (const entries of Object.values(table)) {
    for (const { match, settings } of entries) if (matchesAll(match, labels)) layers.push(settings);
  }
  return mergeTuning(...layers);
}

/**
 * A pool's message: what its members have in common, and what each adds. Merging `nodes[n]` over `settings` gives
 * exactly the node's own settings; the value most members have is the common one, so that the message stays small.
 */
export function poolTuning(table: TuningTable, pool: PoolName, members: readonly Member[]): PoolTuning {
  // An empty pool is tuned too: its first agent reads this before the hub has heard of it.
  const own = members.map(({ node, labels }) => ({ node, labels, settings: settingsFor(table, labels) }));
  const settings =
    own.length === 0
      ? settingsFor(table, { [POOL_LABEL]: pool })
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
  const body = { settings, nodes, gateways };
  return { hash: createHash('sha256').update(canonical(body)).digest('hex').slice(0, 32), ...body };
}

/** True when some member's tuning names gateways. */
export function wantsGateways({ settings, nodes }: PoolTuning): boolean {
  return [settings, ...Object.values(nodes)].some((each) => each.swarm?.gateways !== undefined);
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
