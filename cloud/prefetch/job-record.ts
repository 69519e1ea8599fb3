/** What the hub has to remember of a job over its own restarts: what tags were, who is through, what it said. */
import * as z from 'zod';
import type { Digest, NodeName } from '../../shared/ids.ts';
import { digest } from '../../shared/wire/messages/fields.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { DryRunStatus, StatusCondition } from '../desired/types.ts';

/** Nodes remembered a job. */
const MAX_OUTCOMES = 20_000;
const MAX_MESSAGE_CHARS = 300;

const LETTERS = { s: 'succeeded', f: 'failed', k: 'skipped' } as const;
const count = z.number().nonnegative();
const savedOutcome = z.union([
  z.tuple([z.enum(['s', 'k']), count, count, count]),
  z.tuple([z.literal('f'), count, count, count, z.string(), z.string(), z.boolean()]),
]);
const condition = z.object({
  type: z.string(),
  status: z.enum(['True', 'False', 'Unknown']),
  reason: z.string(),
  message: z.string(),
  lastTransitionTime: z.string(),
});
const dryRun = z.object({
  wanBytes: count,
  upperBound: z.boolean(),
  pools: z.array(z.object({ name: z.string(), nodes: count, wanBytes: count, upperBound: z.boolean() })),
});

/** On disk: one a job. Outcomes are tuples, because there may be 10,000. */
export const savedRecord = z.object({
  generation: count,
  since: z.number(),
  run: z.number().optional(),
  pins: z.record(z.string(), digest),
  pools: z.array(z.string()),
  nodes: z.array(z.string()),
  outcomes: z.record(z.string(), savedOutcome),
  onlineMs: z.record(z.string(), count),
  startedAt: z.number().optional(),
  completedAt: z.number().optional(),
  completedAs: z.string().optional(),
  conditions: z.array(condition),
  dryRun: dryRun.optional(),
});
export type SavedRecord = z.infer<typeof savedRecord>;

/** How it ended on one node. */
export interface Outcome {
  readonly state: 'succeeded' | 'failed' | 'skipped';
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly totalBytes: number;
  readonly error?: { readonly code: string; readonly message: string };
  /** The hub's own verdict, which the node's later word does not change. */
  readonly final: boolean;
}

/** One job's memory. It belongs to one generation; a new one begins without what the last one did. */
export class JobRecord {
  generation = 0;
  /** When the hub first heard of the job, ms. */
  readonly since: number;
  /** Start of the scheduled run in force, ms. */
  run: number | undefined;
  /** Digest by image as the job names it. */
  pins: ReadonlyMap<string, Digest> = new Map();
  /** Pools that have been started. */
  readonly pools = new Set<string>();
  /** Nodes that have been started, where they are started one by one. */
  readonly nodes = new Set<string>();
  readonly outcomes = new Map<string, Outcome>();
  /** How long each node was online while it ran the job; kept where there is a deadline. */
  readonly onlineMs = new Map<string, number>();
  startedAt: number | undefined;
  completedAt: number | undefined;
  /** Of the job as it was when it finished: one that selects other nodes now goes on. */
  completedAs: string | undefined;
  conditions: readonly StatusCondition[] = [];
  dryRun: DryRunStatus | undefined;

  constructor(since: number) {
    this.since = since;
  }

  /** Forgets what an earlier generation did. */
  begin(generation: number): void {
    this.generation = generation;
    this.pins = new Map();
    this.pools.clear();
    this.nodes.clear();
    this.outcomes.clear();
    this.onlineMs.clear();
    this.startedAt = undefined;
    this.completedAt = undefined;
    this.completedAs = undefined;
    this.dryRun = undefined;
  }

  /** Takes over what a node has ended with; true when that is news. */
  note(node: NodeName, progress: PrefetchProgress): boolean {
    const { state, wanBytes, peerBytes, totalBytes, error } = progress;
    if (state !== 'succeeded' && state !== 'failed' && state !== 'skipped') return false;
    const before = this.outcomes.get(node);
    if (before?.final === true || before?.state === state) return false;
    if (before === undefined && this.outcomes.size >= MAX_OUTCOMES) return false;
    const { code = 'INTERNAL', message = 'the node gave no reason' } = error ?? {};
    this.outcomes.set(node, {
      state,
      wanBytes,
      peerBytes,
      totalBytes,
      ...(state === 'failed' ? { error: { code, message: cut(message) } } : {}),
      final: false,
    });
    return true;
  }

  save(): SavedRecord {
    return {
      generation: this.generation,
      since: this.since,
      ...(this.run === undefined ? {} : { run: this.run }),
      pins: Object.fromEntries(this.pins),
      pools: [...this.pools],
      nodes: [...this.nodes],
      outcomes: Object.fromEntries([...this.outcomes].map(([node, each]) => [node, saveOutcome(each)])),
      onlineMs: Object.fromEntries(this.onlineMs),
      ...(this.startedAt === undefined ? {} : { startedAt: this.startedAt }),
      ...(this.completedAt === undefined ? {} : { completedAt: this.completedAt }),
      ...(this.completedAs === undefined ? {} : { completedAs: this.completedAs }),
      conditions: [...this.conditions],
      ...(this.dryRun === undefined
        ? {}
        : { dryRun: { ...this.dryRun, pools: this.dryRun.pools.map((each) => ({ ...each })) } }),
    };
  }

  static load(saved: SavedRecord): JobRecord {
    const record = new JobRecord(saved.since);
    record.generation = saved.generation;
    record.run = saved.run;
    record.pins = new Map(Object.entries(saved.pins));
    for (const pool of saved.pools) record.pools.add(pool);
    for (const node of saved.nodes) record.nodes.add(node);
    for (const [node, each] of Object.entries(saved.outcomes)) record.outcomes.set(node, loadOutcome(each));
    for (const [node, ms] of Object.entries(saved.onlineMs)) record.onlineMs.set(node, ms);
    record.startedAt = saved.startedAt;
    record.completedAt = saved.completedAt;
    record.completedAs = saved.completedAs;
    record.conditions = saved.conditions;
    record.dryRun = saved.dryRun;
    return record;
  }
}

type SavedOutcome = z.infer<typeof savedOutcome>;

function saveOutcome({ state, wanBytes, peerBytes, totalBytes, error, final }: Outcome): SavedOutcome {
  if (state !== 'failed') return [state === 'succeeded' ? 's' : 'k', wanBytes, peerBytes, totalBytes];
  return ['f', wanBytes, peerBytes, totalBytes, error?.code ?? 'INTERNAL', error?.message ?? '', final];
}

function loadOutcome([letter, wanBytes, peerBytes, totalBytes, code, message, final]: SavedOutcome): Outcome {
  const error = code === undefined ? {} : { error: { code, message: message ?? '' } };
  return { state: LETTERS[letter], wanBytes, peerBytes, totalBytes, ...error, final: final ?? false };
}

function cut(message: string): string {
  return message.length <= MAX_MESSAGE_CHARS ? message : `${message.slice(0, MAX_MESSAGE_CHARS)}…`;
}
