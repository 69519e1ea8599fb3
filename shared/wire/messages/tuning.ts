import * as z from 'zod';
import { matchExpression, timeWindows, timezone } from './fields.ts';

/** `tag` answers when the origin cannot be asked: never, or from a record, or always from the record. */
export const tagPolicy = z.enum(['fresh', 'stale-if-offline', 'pinned']);
export type TagPolicy = z.infer<typeof tagPolicy>;

/**
 * Who may pull private images while the registry cannot be asked: whoever it let in within the last days, with the same
 * account (`granted`), or whoever reaches this node's mirror (`node`).
 */
export const offlineAccess = z.enum(['granted', 'node']);
export type OfflineAccess = z.infer<typeof offlineAccess>;

/** Where a registry's content comes from instead: `{url: https://mirror.example}`. */
export const registryTuning = z.strictObject({
  url: z
    .string()
    .refine(
      (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && !/[?#@]/.test(text),
      'not a base URL; write it like https://mirror.example or http://10.0.0.1:5000, without an account',
    ),
});

/**
 * Everything an operator may tune for a node, as people write it in the ConfigMap. All fields are optional: a field left
 * out keeps what an earlier entry, or the default, said. Rates and sizes stay text on the wire, so that what is echoed is
 * what was written; {@link resolveTuning} turns them into numbers.
 */
export const tuningSettings = z.strictObject({
  wan: z
    .strictObject({
      /** Cap of the whole pool's downloads over its uplink. */
      download: z.string().optional(),
      /** Cap of prefetches within it. */
      prefetchDownload: z.string().optional(),
      /** When prefetches may run; always when left out or empty. */
      prefetchWindows: timeWindows.optional(),
      /** Bytes that the pool's prefetches may read over the WAN a day. */
      prefetchDailyBudget: z.string().optional(),
      /** Of the budget's day, and of windows that name none. */
      prefetchTimezone: timezone.optional(),
      /** Origin connections of one node. */
      connections: z.number().int().min(1).max(64).optional(),
    })
    .optional(),
  lan: z
    .strictObject({
      /** Cap of one node's sending to neighbours. */
      upload: z.string().optional(),
      /** Cap of one node's receiving from neighbours. */
      download: z.string().optional(),
    })
    .optional(),
  swarm: z
    .strictObject({
      /** Nodes that go over the WAN for the pool; everyone when left out. */
      gateways: z.array(matchExpression).min(1).optional(),
      /** Share of WAN work of this node, relative to others. */
      weight: z.number().min(0).max(100).optional(),
      /** A pool that is asked before the origin: addresses of its members' peer ports. The hub alone reads pool names. */
      upstream: z.array(z.string()).optional(),
    })
    .optional(),
  tags: z
    .strictObject({
      policy: tagPolicy.optional(),
      /** Members that must hold the same record of a tag while the origin is out of reach. */
      quorum: z.number().int().min(1).max(9).optional(),
      /** Who may pull private images while the registry cannot be asked. */
      offlineAccess: offlineAccess.optional(),
    })
    .optional(),
  cache: z
    .strictObject({
      /** Bytes that the agent may keep on the node; without it only the file system's fill bounds them. */
      quota: z.string().optional(),
      /** Members of the pool that shall still hold a blob when this one gives it up. */
      minReplicas: z.number().int().min(1).max(9).optional(),
      /** Whether a node that is told where its runtime keeps its content shares it with the pool. */
      shareRuntime: z.boolean().optional(),
      /** Whether the agent keeps a copy of its own of what lies there. */
      keepTwice: z.boolean().optional(),
    })
    .optional(),
  prefetch: z
    .strictObject({
      concurrency: z.number().int().min(1).max(16).optional(),
      /** Images that workloads name are prefetched ahead of the rollout. The hub's business; agents do nothing with it. */
      followWorkloads: z.boolean().optional(),
    })
    .optional(),
  /** By registry host as images name it. */
  registries: z.record(z.string(), registryTuning).optional(),
  runtime: z
    .strictObject({
      /** Whether containerd may go past the agent to the registry itself, and so past the WAN cap. */
      originFallback: z.boolean().optional(),
    })
    .optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).optional(),
});
export type TuningSettings = z.infer<typeof tuningSettings>;

/**
 * Settings as they come over the wire: what a newer hub says and this version does not know is no offence. It stays in,
 * so that an agent which is renewed finds it in what it kept; {@link unknownSettings} names it.
 */
const wireSettings = z.record(z.string(), z.unknown()).transform((raw, context): TuningSettings => {
  const result = tuningSettings.safeParse(withoutUnknown(raw, unknownSettings(raw)));
  if (result.success) return raw as TuningSettings;
  const issue = result.error.issues[0];
  context.addIssue({ code: 'custom', path: issue?.path ?? [], message: issue?.message ?? 'invalid' });
  return z.NEVER;
});

/** Paths of fields that this version does not know: `wan.jitter`. */
export function unknownSettings(settings: unknown): string[] {
  const result = tuningSettings.safeParse(settings);
  const found = (result.error?.issues ?? []).flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key].join('.')) : [],
  );
  return found.sort();
}

function withoutUnknown(value: unknown, paths: readonly string[], at = ''): unknown {
  if (Array.isArray(value)) return value.map((each, index) => withoutUnknown(each, paths, `${at}${index}.`));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, each]) =>
      paths.includes(`${at}${key}`) ? [] : [[key, withoutUnknown(each, paths, `${at}${key}.`)]],
    ),
  );
}

/** Retained on `pools/<pool>/tuning`: settings common to the pool, then by node where they differ. */
export const tuningMessage = z.object({
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  /** Over settings and nodes; echoed in reports once applied. */
  hash: z.string(),
  settings: wireSettings,
  nodes: z.record(z.string(), wireSettings).default({}),
  /** Names of the pool's gateways; empty when everyone goes over the WAN. */
  gateways: z.array(z.string()).default([]),
  /** Pools that name this one as their upstream: their nodes may read ranges from its members. */
  downstreams: z.array(z.string()).default([]),
});
export type TuningMessage = z.infer<typeof tuningMessage>;
