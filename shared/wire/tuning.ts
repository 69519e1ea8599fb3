import type { LogLevel } from '../log.ts';
import { parseTimezone, parseWindow, type TimeWindow } from '../time-window.ts';
import { parseBytes, parseRate } from '../units.ts';
import type { OfflineAccess, TagPolicy, TuningSettings } from './messages/tuning.ts';

/** Takes a cap or a budget back that an earlier entry set. */
export const NO_CAP = 'none';

/** Tuning as the agent uses it: numbers, and a value for every field. Rates are bytes a second; undefined is no cap. */
export interface Tuning {
  readonly wan: {
    readonly download: number | undefined;
    readonly prefetchDownload: number | undefined;
    readonly connections: number;
    /** Prefetches run inside of these; always when there are none. */
    readonly prefetchWindows: readonly TimeWindow[];
    /** Bytes a day for the whole pool; undefined is no budget. */
    readonly prefetchDailyBudget: number | undefined;
    readonly prefetchTimezone: string;
  };
  readonly lan: { readonly upload: number | undefined; readonly download: number | undefined };
  readonly swarm: { readonly weight: number; readonly upstream: readonly string[] };
  readonly tags: {
    readonly policy: TagPolicy;
    /** undefined: by the agent's situation. */
    readonly quorum: number | undefined;
    readonly offlineAccess: OfflineAccess;
  };
  readonly cache: {
    /** Bytes; undefined is no quota. */
    readonly quota: number | undefined;
    readonly minReplicas: number;
    /** What lies in the container runtime's own content store is shared with the pool. */
    readonly shareRuntime: boolean;
    /** What lies there is kept in the agent's own files as well. */
    readonly keepTwice: boolean;
  };
  readonly prefetch: { readonly concurrency: number };
  /** Base URLs that stand in for those of the node's own settings, by registry host. */
  readonly registries: Readonly<Record<string, string>>;
  /** undefined: what the node's own settings say. */
  readonly runtime: { readonly originFallback: boolean | undefined };
  readonly logLevel: LogLevel | undefined;
}

/** Later settings win, field by field; lists are replaced, not joined. */
export function mergeTuning(...layers: readonly TuningSettings[]): TuningSettings {
  let merged: Record<string, unknown> = {};
  for (const layer of layers) merged = mergeObjects(merged, layer);
  return merged as TuningSettings;
}

/** @throws TidepoolError INVALID_ARGUMENT for a rate, a size, a time or a zone that is none */
export function resolveTuning(settings: TuningSettings): Tuning {
  const { wan, lan, swarm, tags, cache, prefetch, registries, runtime, logLevel } = settings;
  const prefetchTimezone = parseTimezone(wan?.prefetchTimezone ?? DEFAULT_TUNING.timezone);
  return {
    wan: {
      download: capOf(wan?.download, parseRate),
      prefetchDownload: capOf(wan?.prefetchDownload, parseRate),
      connections: wan?.connections ?? DEFAULT_TUNING.connections,
      prefetchWindows: (wan?.prefetchWindows ?? []).map((each) => parseWindow(each, prefetchTimezone)),
      prefetchDailyBudget: capOf(wan?.prefetchDailyBudget, parseBytes),
      prefetchTimezone,
    },
    lan: { upload: capOf(lan?.upload, parseRate), download: capOf(lan?.download, parseRate) },
    swarm: { weight: swarm?.weight ?? DEFAULT_TUNING.weight, upstream: swarm?.upstream ?? [] },
    tags: {
      policy: tags?.policy ?? DEFAULT_TUNING.policy,
      quorum: tags?.quorum,
      offlineAccess: tags?.offlineAccess ?? DEFAULT_TUNING.offlineAccess,
    },
    cache: {
      quota: capOf(cache?.quota, parseBytes),
      minReplicas: cache?.minReplicas ?? DEFAULT_TUNING.minReplicas,
      shareRuntime: cache?.shareRuntime ?? DEFAULT_TUNING.shareRuntime,
      keepTwice: cache?.keepTwice ?? DEFAULT_TUNING.keepTwice,
    },
    prefetch: { concurrency: prefetch?.concurrency ?? DEFAULT_TUNING.concurrency },
    registries: Object.fromEntries(Object.entries(registries ?? {}).map(([name, { url }]) => [name, url])),
    runtime: { originFallback: runtime?.originFallback },
    logLevel,
  };
}

const DEFAULT_TUNING = {
  connections: 16,
  weight: 1,
  policy: 'stale-if-offline',
  offlineAccess: 'granted',
  minReplicas: 2,
  shareRuntime: true,
  keepTwice: false,
  concurrency: 2,
  timezone: 'UTC',
} as const;

/** Every setting by its path, with what holds where nobody says anything, in words where that is no value. */
export const SETTING_DEFAULTS: Readonly<Record<string, string | number | boolean>> = {
  'wan.download': 'no cap',
  'wan.connections': DEFAULT_TUNING.connections,
  'wan.prefetchDownload': 'no cap',
  'wan.prefetchWindows': 'always',
  'wan.prefetchDailyBudget': 'no budget',
  'wan.prefetchTimezone': DEFAULT_TUNING.timezone,
  'lan.upload': 'no cap',
  'lan.download': 'no cap',
  'swarm.gateways': 'every node',
  'swarm.weight': DEFAULT_TUNING.weight,
  'swarm.upstream': 'no pool',
  'tags.policy': DEFAULT_TUNING.policy,
  'tags.quorum': '2 on a node with a hub and a certificate, else 1',
  'tags.offlineAccess': DEFAULT_TUNING.offlineAccess,
  'cache.quota': 'no quota',
  'cache.minReplicas': DEFAULT_TUNING.minReplicas,
  'cache.shareRuntime': DEFAULT_TUNING.shareRuntime,
  'cache.keepTwice': DEFAULT_TUNING.keepTwice,
  'prefetch.concurrency': DEFAULT_TUNING.concurrency,
  'prefetch.followWorkloads': false,
  registries: "the node's own",
  'runtime.originFallback': "the node's own",
  logLevel: "the node's own",
};

function capOf(text: string | undefined, parse: (text: string) => number): number | undefined {
  return text === undefined || text === NO_CAP ? undefined : parse(text);
}

function mergeObjects(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined || key === '__proto__') continue;
    const before = merged[key];
    merged[key] = isPlain(value) && isPlain(before) ? mergeObjects(before, value) : value;
  }
  return merged;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
