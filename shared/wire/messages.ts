/**
 * What hub and agents say to each other over MQTT. Every payload is JSON, at most 64 KiB, checked by these schemas where
 * it enters a process. Unknown fields are dropped, so that a newer side can add some.
 */
import * as z from 'zod';
import { TidepoolError } from '../errors.ts';
import { isDigest, type NodeName, type PoolName, parseNodeName, parsePoolName } from '../ids.ts';
import { DAYS, parseClock, parseTimezone } from '../time-window.ts';
import { parseKeyId } from '../trust/certificate.ts';
import { parseBytes, parseDuration, parseRate } from '../units.ts';
import { toldEvent } from './events.ts';

const viaParser = <T>(parse: (text: string) => T) =>
  z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });

export const nodeName = viaParser<NodeName>(parseNodeName);
export const poolName = viaParser<PoolName>(parsePoolName);
export const digest = z.string().refine(isDigest, 'expected sha256: and 64 hex digits');
/** `20Mbit` as people write it, to bytes a second. */
export const rate = viaParser(parseRate);
/** `8Gi` to bytes. */
export const size = viaParser(parseBytes);
/** `30s` to ms. */
export const duration = viaParser(parseDuration);

/** Labels select nodes; several expressions must all hold. */
export const matchExpression = z.strictObject({
  key: z.string().min(1),
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).default('In'),
  value: z.string().optional(),
  values: z.array(z.string()).optional(),
});
export type MatchExpression = z.infer<typeof matchExpression>;

/** `tag` answers when the origin cannot be asked: never, or from a record, or always from the record. */
export const tagPolicy = z.enum(['fresh', 'stale-if-offline', 'pinned']);
export type TagPolicy = z.infer<typeof tagPolicy>;

/**
 * Who may pull private images while the registry cannot be asked: whoever it let in within the last days, with the same
 * account (`granted`), or whoever reaches this node's mirror (`node`).
 */
export const offlineAccess = z.enum(['granted', 'node']);
export type OfflineAccess = z.infer<typeof offlineAccess>;

/** Checked by the parser, kept as it was written: what agents echo is what people wrote. */
const asWritten = (parse: (text: string) => unknown) => {
  const parsed = viaParser(parse);
  return z.string().superRefine((text, context) => {
    const result = parsed.safeParse(text);
    if (!result.success) {
      context.addIssue({ code: 'custom', message: result.error.issues[0]?.message ?? 'invalid' });
    }
  });
};
export const rateText = asWritten(parseRate);
export const sizeText = asWritten(parseBytes);
export const timezone = asWritten(parseTimezone);
const timeOfDay = asWritten(parseClock);

/** Hours of local time; at most 32 of them make a schedule. */
export const timeWindow = z.strictObject({
  days: z
    .array(z.enum(DAYS, `not a day; write one of ${DAYS.join(', ')}`))
    .min(1)
    .optional(),
  start: timeOfDay,
  end: timeOfDay,
  timezone: timezone.optional(),
});
export const timeWindows = z.array(timeWindow).max(32);

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

/** Retained on `hub/state`; the will says offline. */
export const hubState = z.object({
  state: z.enum(['online', 'offline']),
  /** Grows with each start of a hub over the same data; older epochs are refused. */
  epoch: z.number().int().nonnegative(),
  at: z.number(),
});
export type HubState = z.infer<typeof hubState>;

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

export const rosterNode = z.object({
  node: nodeName,
  /** Literal address and peer port, `10.0.0.7:6181` or `[fd00::7]:6181`; absent until the node's first birth. */
  address: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
});
/** Retained on `pools/<pool>/roster/<shard>`. A pool's roster is the union of its shards of one version. */
export const rosterMessage = z.object({
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  shard: z.number().int().nonnegative(),
  shards: z.number().int().positive(),
  nodes: z.array(rosterNode),
});
export type RosterMessage = z.infer<typeof rosterMessage>;

/** Retained on `pools/<pool>/prefetch/<id>`; an empty payload takes it back. */
export const prefetchMessage = z.object({
  epoch: z.number().int().nonnegative(),
  id: z.string().min(1).max(253),
  /** Of the publication: an earlier one that is played again is known by it. */
  version: z.number().int().nonnegative().optional(),
  /** Grows when the job's definition changes; a node runs each (id, generation) once. */
  generation: z.number().int().nonnegative(),
  /** What there is to do, as a digest: the same under another generation, as of a hub that has lost its data, is not done again. */
  work: z.string().max(64).optional(),
  images: z
    .array(
      z.object({ image: z.string(), digest: digest.optional(), platforms: z.array(z.string()).optional() }),
    )
    .min(1),
  /** Nodes of the pool that shall run it; absent means all. */
  nodes: z.array(z.string()).optional(),
  /** Further nodes get their turn: one that is not named begins nothing, and keeps what it has done of the same work. */
  more: z.boolean().optional(),
  suspend: z.boolean().default(false),
  timeoutMs: z.number().positive().default(600_000),
  retries: z.number().int().min(0).max(100).default(3),
  /** The hub has accounts for its images, by `POST /v1/node/credentials`. */
  credentials: z.boolean().optional(),
  /** For so long after it is through a node keeps the images, also when the job is gone; absent: while the job stands. */
  retainMs: z.number().nonnegative().optional(),
});
export type PrefetchMessage = z.infer<typeof prefetchMessage>;

/**
 * Retained on `pools/<pool>/prefetch-index`: every job of the pool. A job that was taken back while an agent was away
 * leaves no message behind; the agent drops what is not listed here.
 */
export const prefetchIndexMessage = z.object({
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  ids: z.array(z.string().min(1).max(253)),
});
export type PrefetchIndexMessage = z.infer<typeof prefetchIndexMessage>;

/** Retained on `pools/<pool>/trust`, always signed: whose word counts, and whose no longer does. */
export const trustMessage = z.object({
  epoch: z.number().int().nonnegative(),
  /** Of the hub's trust book, not of the publication: it never falls, also over restarts and epochs. */
  version: z.number().int().nonnegative(),
  /** PEM, one authority each; the first issues. */
  roots: z.array(z.string().max(8_192)).min(1).max(8),
  /** Ids of keys. */
  revoked: z.array(viaParser(parseKeyId)).max(2_000).default([]),
});
export type TrustMessage = z.infer<typeof trustMessage>;

export const birthMessage = z.object({
  node: nodeName,
  pool: poolName,
  /** New with each start of the agent: a late will of an older start must not kill a newer one. */
  bootId: z.string().min(1),
  /** Counts the connections of one boot: the will of a lost connection must not kill the next one either. */
  session: z.number().int().nonnegative().optional(),
  address: z.string(),
  version: z.string(),
  platform: z.string(),
  at: z.number(),
});
export type BirthMessage = z.infer<typeof birthMessage>;

export const deathMessage = z.object({
  node: nodeName,
  bootId: z.string().min(1),
  session: z.number().int().nonnegative().optional(),
});
export type DeathMessage = z.infer<typeof deathMessage>;

export const prefetchState = z.enum(['waiting', 'active', 'succeeded', 'failed', 'skipped']);
export type PrefetchState = z.infer<typeof prefetchState>;

export const prefetchProgress = z.object({
  id: z.string(),
  generation: z.number().int().nonnegative(),
  /** As the job has it. */
  work: z.string().max(64).optional(),
  state: prefetchState,
  /** Bytes of the images on this node, once their manifests are known. */
  totalBytes: z.number().nonnegative(),
  doneBytes: z.number().nonnegative(),
  wanBytes: z.number().nonnegative(),
  peerBytes: z.number().nonnegative(),
  error: z.object({ code: z.string(), message: z.string().max(2000) }).optional(),
  /** What a job in state `waiting` waits for, in words: its pool's window. */
  waitingFor: z.string().max(500).optional(),
  /** Images as the node's container runtime has them; `imageId` is absent where the image is in the agent's store alone. */
  runtime: z
    .array(
      z.object({ image: z.string(), imageId: z.string().optional(), note: z.string().max(500).optional() }),
    )
    .max(100)
    .optional(),
});
export type PrefetchProgress = z.infer<typeof prefetchProgress>;

/** Totals of one node since its agent started. */
export const nodeCounters = z.object({
  wanBytes: z.number().nonnegative(),
  peerBytes: z.number().nonnegative(),
  servedPeerBytes: z.number().nonnegative(),
  servedRuntimeBytes: z.number().nonnegative(),
  storedBytes: z.number().nonnegative(),
  blobs: z.number().nonnegative(),
});
export type NodeCounters = z.infer<typeof nodeCounters>;

/** Whether pods of a node are pulled by way of the agent, as its last self-test through CRI found. */
export const runtimeReport = z.object({
  /** `no`: the runtime does not read its hosts directory; `not-configured`: that has nothing of ours; `unknown`: no CRI. */
  mirror: z.enum(['yes', 'no', 'not-configured', 'unknown']),
  /** Name and version. */
  runtime: z.string().max(200).optional(),
  reason: z.string().max(1000).optional(),
  /** What a person has to do. */
  fix: z.string().max(1000).optional(),
});
export type RuntimeReport = z.infer<typeof runtimeReport>;

/** Events in one report. */
export const MAX_EVENTS_TOLD = 50;

/** On `nodes/<node>/report`, QoS 1. `seq` starts at 1 with each boot; a gap makes the hub ask for everything. */
export const reportMessage = z.object({
  node: nodeName,
  bootId: z.string().min(1),
  seq: z.number().int().positive(),
  at: z.number(),
  /** True when this report carries the whole state, not what changed. */
  full: z.boolean(),
  tuningHash: z.string().optional(),
  /** Settings that the node was told of and does not have in force, in words. */
  tuningProblems: z.array(z.string().max(300)).max(10).optional(),
  counters: nodeCounters.optional(),
  runtime: runtimeReport.optional(),
  prefetches: z.array(prefetchProgress).default([]),
  /** Told again until the hub says that it has them: see `events-kept`. */
  events: z.array(toldEvent).max(MAX_EVENTS_TOLD).optional(),
});
export type ReportMessage = z.infer<typeof reportMessage>;

/** On `nodes/<node>/command`; never retained. */
export const commandMessage = z.object({
  id: z.string().min(1).max(100),
  epoch: z.number().int().nonnegative(),
  /** When it was sent and until when it may be followed, by the hub's clock. */
  at: z.number().optional(),
  expiresAt: z.number(),
  command: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('resync') }),
    /** The pool that the node's label says; followed by agents whose settings leave that to the hub. */
    z.object({ kind: z.literal('pool'), pool: poolName }),
    /** The node was moved to another pool: its next certificate names that one. */
    z.object({ kind: z.literal('renew') }),
    /** The hub has the events of these boots up to these numbers: the node need not keep them. */
    z.object({
      kind: z.literal('events-kept'),
      through: z
        .array(z.object({ boot: z.string().min(1).max(100), seq: z.number().int().positive() }))
        .max(MAX_EVENTS_TOLD),
    }),
  ]),
});
export type CommandMessage = z.infer<typeof commandMessage>;

/** @throws TidepoolError INVALID_ARGUMENT, with the first offence and where it stands */
export function decode<T>(schema: z.ZodType<T>, payload: Uint8Array, what: string): T {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `${what} is not JSON`, { cause: error });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `${what}: ${issue?.path.join('.') || '(root)'}: ${issue?.message ?? 'invalid'}`,
  );
}

export function encode(message: unknown): Buffer {
  return Buffer.from(JSON.stringify(message));
}
