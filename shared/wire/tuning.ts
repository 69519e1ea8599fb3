import type { LogLevel } from '../log.ts';
import { parseRate } from '../units.ts';
import type { TagPolicy, TuningSettings } from './messages.ts';

/** Tuning as the agent uses it: numbers, and a value for every field. Rates are bytes a second; undefined is no cap. */
export interface Tuning {
  readonly wan: {
    readonly download: number | undefined;
    readonly prefetchDownload: number | undefined;
    readonly connections: number;
  };
  readonly lan: { readonly upload: number | undefined; readonly download: number | undefined };
  readonly swarm: { readonly weight: number; readonly upstream: readonly string[] };
  readonly tags: { readonly policy: TagPolicy; readonly quorum: number };
  readonly prefetch: { readonly concurrency: number };
  readonly logLevel: LogLevel | undefined;
}

/** Later settings win, field by field; lists are replaced, not joined. */
export function mergeTuning(...layers: readonly TuningSettings[]): TuningSettings {
  let merged: Record<string, unknown> = {};
  for (const layer of layers) merged = mergeObjects(merged, layer);
  return merged as TuningSettings;
}

/** @throws TidepoolError INVALID_ARGUMENT for a rate that is none */
export function resolveTuning(settings: TuningSettings): Tuning {
  const rateOf = (text: string | undefined): number | undefined =>
    text === undefined ? undefined : parseRate(text);
  return {
    wan: {
      download: rateOf(settings.wan?.download),
      prefetchDownload: rateOf(settings.wan?.prefetchDownload),
      connections: settings.wan?.connections ?? 16,
    },
    lan: { upload: rateOf(settings.lan?.upload), download: rateOf(settings.lan?.download) },
    swarm: { weight: settings.swarm?.weight ?? 1, upstream: settings.swarm?.upstream ?? [] },
    tags: { policy: settings.tags?.policy ?? 'stale-if-offline', quorum: settings.tags?.quorum ?? 1 },
    prefetch: { concurrency: settings.prefetch?.concurrency ?? 2 },
    logLevel: settings.logLevel,
  };
}

function mergeObjects(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    const before = merged[key];
    merged[key] = isPlain(value) && isPlain(before) ? mergeObjects(before, value) : value;
  }
  return merged;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
