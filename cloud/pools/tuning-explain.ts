import type { PoolName } from '../../shared/ids.ts';
import type { TuningSettings } from '../../shared/wire/messages/tuning.ts';
import { SETTING_DEFAULTS } from '../../shared/wire/tuning.ts';
import { type Membership, POOL_LABEL } from './membership.ts';
import { type Labels, matchesAll } from './selectors.ts';
import { canonical, settingsFor } from './tuning-effective.ts';
import type { TuningTable } from './tuning-parse.ts';

export interface EntryName {
  readonly kind: string;
  readonly entry: string;
}

/** One setting, and where it comes from. */
export interface ExplainedSetting {
  readonly setting: string;
  readonly value: unknown;
  /** Null for a default. */
  readonly from: EntryName | null;
  /** What earlier entries said, the last of them first. */
  readonly over: readonly { readonly value: unknown; readonly from: EntryName }[];
}

/** What another tuning would make different on some nodes of a pool. Null: no entry says anything. */
export interface TuningChange {
  readonly pool: PoolName;
  readonly setting: string;
  readonly before: unknown;
  readonly after: unknown;
  readonly nodes: number;
  readonly sample: readonly string[];
}

const SAMPLE_NODES = 5;

/** Every setting of a node with these labels, in the order of {@link SETTING_DEFAULTS}; settings of a map by their keys. */
export function explain(table: TuningTable, labels: Labels): readonly ExplainedSetting[] {
  const said = new Map<string, { value: unknown; from: EntryName }[]>();
  for (const [kind, entries] of Object.entries(table)) {
    for (const { name, match, settings } of entries) {
      if (!matchesAll(match, labels)) continue;
      for (const [setting, value] of leavesOf(settings)) {
        const all = said.get(setting) ?? [];
        all.unshift({ value, from: { kind, entry: name } });
        said.set(setting, all);
      }
    }
  }
  return Object.entries(SETTING_DEFAULTS).flatMap(([setting, value]): ExplainedSetting[] => {
    const keys = [...said.keys()].filter((key) => key === setting || key.startsWith(`${setting}.`)).sort();
    if (keys.length === 0) return [{ setting, value, from: null, over: [] }];
    return keys.flatMap((key) => {
      const [last, ...over] = said.get(key) ?? [];
      return last === undefined ? [] : [{ setting: key, ...last, over }];
    });
  });
}

/** What each pool's nodes would have otherwise under `after`, equal changes of a pool in one row. */
export function tuningChanges(
  before: TuningTable,
  after: TuningTable,
  { pools }: Pick<Membership, 'pools'>,
): readonly TuningChange[] {
  const changes: TuningChange[] = [];
  for (const [pool, members] of [...pools].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const rows = new Map<string, TuningChange & { nodes: number; readonly sample: string[] }>();
    const look = (labels: Labels, node?: string): void => {
      const old = new Map(leavesOf(settingsFor(before, labels)));
      const fresh = new Map(leavesOf(settingsFor(after, labels)));
      for (const setting of new Set([...old.keys(), ...fresh.keys()])) {
        const values = { before: old.get(setting) ?? null, after: fresh.get(setting) ?? null };
        if (canonical(values.before) === canonical(values.after)) continue;
        const key = canonical({ setting, ...values });
        const row = rows.get(key) ?? { pool, setting, ...values, nodes: 0, sample: [] };
        rows.set(key, row);
        if (node === undefined) continue;
        row.nodes++;
        if (row.sample.length < SAMPLE_NODES) row.sample.push(node);
      }
    };
    for (const { labels, node } of members) look(labels, node);
    if (members.length === 0) look({ [POOL_LABEL]: pool });
    changes.push(...rows.values());
  }
  return changes;
}

/** Path and value of whatever is no map: `registries.docker.io.url` and its like. */
function leavesOf(settings: TuningSettings): [string, unknown][] {
  const walk = (value: unknown, path: string): [string, unknown][] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([key, each]) => walk(each, path === '' ? key : `${path}.${key}`))
      : value === undefined
        ? []
        : [[path, value]];
  return walk(settings, '');
}
