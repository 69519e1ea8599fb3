import * as z from 'zod';
import { type Clock, delay } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { listAt, numberAt, recordAt, stringAt } from './objects.ts';

const POLL_MS = 2_000;
const PAGE = 500;
/** Nodes that are named; the rest is counted. */
const MAX_NAMED = 1_000;

const daemonSet = z.looseObject({
  apiVersion: z.literal('apps/v1'),
  kind: z.literal('DaemonSet'),
  metadata: z.looseObject({ name: z.string().min(1), namespace: z.string().min(1) }),
  spec: z.looseObject({ selector: z.object({ matchLabels: z.record(z.string(), z.string()) }) }),
});
export type RestoreDaemonSet = z.infer<typeof daemonSet>;

/** @throws TidepoolError INVALID_CONFIG for anything but a DaemonSet with a namespace and a selector by labels */
export function parseRestoreDaemonSet(value: unknown): RestoreDaemonSet {
  const result = daemonSet.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TidepoolError(
    'INVALID_CONFIG',
    `not the DaemonSet of the chart: ${issue?.path.join('.')}: ${issue?.message}`,
  );
}

export interface Missed {
  readonly node: string;
  readonly why: string;
}

export interface Restored {
  /** Every node is through. False too where nobody said which nodes there are. */
  readonly complete: boolean;
  readonly done: number;
  /** Nodes on which containerd's files are as Tidepool left them. */
  readonly missed: readonly Missed[];
  /** Missed ones that are not named in `missed`, or not known by name. */
  readonly unnamed: number;
}

interface Progress {
  /** Nodes that there have to be; undefined while the controller has not said so. */
  readonly desired: number | undefined;
  readonly done: ReadonlySet<string>;
  readonly missed: readonly Missed[];
}

/**
 * Puts containerd's files back on every node, by a DaemonSet whose init container does it: a Job reaches one node. The
 * DaemonSet is deleted once all nodes are through; otherwise it stays, for nodes that come back.
 * @throws KubeError when it cannot even be made
 */
export async function restoreContainerd(
  c: { readonly client: Pick<KubeApi, 'json'>; readonly clock: Clock; readonly say: (text: string) => void },
  init: {
    readonly daemonSet: RestoreDaemonSet;
    /** Name of the agents' DaemonSet: a pod of it that starts again would set up anew what is taken back here. */
    readonly insteadOf: string;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  },
): Promise<Restored> {
  const { client, clock, say } = c;
  const { signal } = init;
  const { namespace, name } = init.daemonSet.metadata;
  const path = `/apis/apps/v1/namespaces/${namespace}/daemonsets`;
  const remove = async (which: string): Promise<void> => {
    const body = { propagationPolicy: 'Background' };
    try {
      await client.json('DELETE', { path: `${path}/${which}`, body, signal });
    } catch (error) {
      if (!isKubeError(error, 404)) throw error;
    }
  };
  await remove(init.insteadOf);
  try {
    await client.json('POST', { path, body: init.daemonSet, signal });
  } catch (error) {
    // Of an attempt before this one.
    if (!isKubeError(error, 409)) throw error;
  }
  const until = clock.mono() + init.timeoutMs;
  let last: Progress = { desired: undefined, done: new Set(), missed: [] };
  let told = '';
  for (;;) {
    try {
      last = await look(client, init.daemonSet, signal);
    } catch (error) {
      signal.throwIfAborted();
      say(`cannot see how far it is: ${describeError(error)}`);
    }
    const { desired, done } = last;
    const line = `containerd is restored on ${done.size} of ${desired ?? '?'} nodes`;
    if (line !== told) say(line);
    told = line;
    if (desired !== undefined && done.size >= desired) {
      await remove(name);
      return { complete: true, done: done.size, missed: [], unnamed: 0 };
    }
    if (clock.mono() >= until) break;
    await delay(clock, POLL_MS, signal);
  }
  const missed = last.missed.slice(0, MAX_NAMED);
  const unnamed = Math.max(0, (last.desired ?? 0) - last.done.size - missed.length);
  return { complete: false, done: last.done.size, missed, unnamed };
}

async function look(
  client: Pick<KubeApi, 'json'>,
  { metadata: { namespace, name }, spec }: RestoreDaemonSet,
  signal: AbortSignal,
): Promise<Progress> {
  const found = await client.json('GET', {
    path: `/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`,
    signal,
  });
  const seen = numberAt(found, 'status', 'observedGeneration') ?? 0;
  const current = seen >= (numberAt(found, 'metadata', 'generation') ?? 1);
  const labelSelector = Object.entries(spec.selector.matchLabels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const done = new Set<string>();
  const missed: Missed[] = [];
  for (let next: string | undefined = ''; next !== undefined; ) {
    const list: unknown = await client.json('GET', {
      path: `/api/v1/namespaces/${namespace}/pods`,
      query: { labelSelector, limit: PAGE, continue: next === '' ? undefined : next },
      signal,
    });
    for (const pod of listAt(list, 'items')) {
      const node = nodeOf(pod);
      const why = unfinished(pod);
      if (why === undefined) done.add(node);
      else missed.push({ node, why });
    }
    const more = stringAt(list, 'metadata', 'continue');
    next = more === '' ? undefined : more;
  }
  return {
    desired: current ? numberAt(found, 'status', 'desiredNumberScheduled') : undefined,
    done,
    missed: missed.filter(({ node }) => !done.has(node)),
  };
}

/** A DaemonSet's pod names its node before it is put there. */
function nodeOf(pod: unknown): string {
  const assigned = stringAt(pod, 'spec', 'nodeName');
  if (assigned !== undefined && assigned !== '') return assigned;
  const terms = listAt(
    pod,
    'spec',
    'affinity',
    'nodeAffinity',
    'requiredDuringSchedulingIgnoredDuringExecution',
    'nodeSelectorTerms',
  );
  const values = terms
    .flatMap((term) => listAt(term, 'matchFields'))
    .flatMap((field) => listAt(field, 'values'));
  const [node] = values;
  return typeof node === 'string' ? node : `of pod ${stringAt(pod, 'metadata', 'name') ?? '?'}`;
}

/** Why a pod has not done its work; undefined when it has. */
function unfinished(pod: unknown): string | undefined {
  const [status] = listAt(pod, 'status', 'initContainerStatuses');
  const state = recordAt(status, 'state');
  const code = numberAt(state, 'terminated', 'exitCode');
  if (code === 0) return undefined;
  if (code !== undefined) return `it failed there, with exit code ${code}`;
  const last = numberAt(status, 'lastState', 'terminated', 'exitCode');
  const waiting = stringAt(state, 'waiting', 'reason');
  if (last !== undefined)
    return `it failed there, with exit code ${last}${waiting === undefined ? '' : ` (${waiting})`}`;
  return waiting ?? stringAt(pod, 'status', 'reason') ?? 'no answer from its kubelet';
}
