import { describe, expect, it } from 'vitest';
import type { KubeApi, KubeRequest } from '../../../../cloud/kube/kube-client.ts';
import { KubeError } from '../../../../cloud/kube/kube-error.ts';
import { parseRestoreDaemonSet, restoreContainerd } from '../../../../cloud/kube/restore-containerd.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const manifest = parseRestoreDaemonSet({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'tp-restore', namespace: 'ns' },
  spec: { selector: { matchLabels: { app: 'restore' } } },
});

const pod = (node: string, state: object, more: object = {}): object => ({
  metadata: { name: `restore-${node}` },
  spec: { nodeName: node },
  status: { initContainerStatuses: [{ state, ...more }] },
});
const through = { terminated: { exitCode: 0 } };

/** As much of a cluster as the hook sees. */
class Cluster implements Pick<KubeApi, 'json'> {
  readonly asked: string[] = [];
  readonly sets = new Set(['tp-agent']);
  /** What each look finds, the last one again and again. */
  readonly #looks: readonly { desired: number; pods: readonly object[] }[];
  #look = -1;
  failing = 0;

  constructor(...looks: readonly { desired: number; pods: readonly object[] }[]) {
    this.#looks = looks;
  }

  async json(method: string, { path, query }: KubeRequest): Promise<unknown> {
    const name = path.split('/').at(-1) ?? '';
    this.asked.push(`${method} ${name}`);
    const missing = (): never => {
      throw new KubeError(`no ${name}`, { httpStatus: 404 });
    };
    if (method === 'POST') {
      if (this.sets.has('tp-restore')) throw new KubeError('exists', { httpStatus: 409 });
      this.sets.add('tp-restore');
      return {};
    }
    if (method === 'DELETE') return this.sets.delete(name) ? {} : missing();
    if (name === 'pods') {
      expect(query).toMatchObject({ labelSelector: 'app=restore' });
      const { pods = [] } = this.#looks.at(Math.min(this.#look, this.#looks.length - 1)) ?? {};
      // In two pages.
      const at = query?.continue === undefined ? 0 : Math.ceil(pods.length / 2);
      const items = at === 0 ? pods.slice(0, Math.ceil(pods.length / 2)) : pods.slice(at);
      return { metadata: at === 0 && pods.length > 1 ? { continue: 'more' } : {}, items };
    }
    if (!this.sets.has(name)) return missing();
    if (this.failing-- > 0) throw new KubeError('the API server is away', { httpStatus: 0 });
    this.#look++;
    const { desired } = this.#looks.at(Math.min(this.#look, this.#looks.length - 1)) ?? { desired: 0 };
    const status = this.#look === 0 ? {} : { observedGeneration: 1, desiredNumberScheduled: desired };
    return { metadata: { generation: 1 }, status };
  }
}

async function run(cluster: Cluster, timeoutMs = 60_000) {
  const said: string[] = [];
  const result = await restoreContainerd(
    { client: cluster, clock: new SkippingClock(), say: (text) => said.push(text) },
    { daemonSet: manifest, insteadOf: 'tp-agent', timeoutMs, signal: new AbortController().signal },
  );
  return { result, said };
}

describe('restoreContainerd', () => {
  it('ends the agents first, waits for every node, and takes its DaemonSet away', async () => {
    const cluster = new Cluster(
      { desired: 0, pods: [] },
      { desired: 2, pods: [pod('n1', through)] },
      { desired: 2, pods: [pod('n1', through), pod('n2', { running: {} })] },
      { desired: 2, pods: [pod('n1', through), pod('n2', through)] },
    );
    const { result, said } = await run(cluster);
    expect(result).toEqual({ complete: true, done: 2, missed: [], unnamed: 0 });
    expect(cluster.asked.slice(0, 2)).toEqual(['DELETE tp-agent', 'POST daemonsets']);
    expect(cluster.sets).toEqual(new Set());
    expect(said.at(-1)).toBe('containerd is restored on 2 of 2 nodes');
  });

  it('does not take a DaemonSet that nobody has looked at for one that is done', async () => {
    const cluster = new Cluster({ desired: 0, pods: [] }, { desired: 1, pods: [pod('n1', through)] });
    expect((await run(cluster)).result.done).toBe(1);
  });

  it('names the nodes it did not reach, with what is known of each, and leaves the DaemonSet for them', async () => {
    const unplaced = {
      metadata: { name: 'restore-x' },
      spec: {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [
                { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n4'] }] },
              ],
            },
          },
        },
      },
    };
    const crashing = { waiting: { reason: 'CrashLoopBackOff' } };
    const cluster = new Cluster({
      desired: 6,
      pods: [
        pod('n1', through),
        pod('n2', { waiting: { reason: 'ErrImagePull' } }),
        pod('n3', crashing, { lastState: { terminated: { exitCode: 1 } } }),
        unplaced,
      ],
    });
    const { result } = await run(cluster);
    expect(result).toEqual({
      complete: false,
      done: 1,
      missed: [
        { node: 'n2', why: 'ErrImagePull' },
        { node: 'n3', why: 'it failed there, with exit code 1 (CrashLoopBackOff)' },
        { node: 'n4', why: 'no answer from its kubelet' },
      ],
      unnamed: 2,
    });
    expect(cluster.sets).toEqual(new Set(['tp-restore']));
  });

  it('does not take silence for success', async () => {
    const cluster = new Cluster({ desired: 0, pods: [] });
    cluster.failing = 1_000;
    const { result } = await run(cluster);
    expect(result).toEqual({ complete: false, done: 0, missed: [], unnamed: 0 });
    expect(cluster.sets).toEqual(new Set(['tp-restore']));
  });

  it('goes on with what an earlier attempt began, past an API server that is away', async () => {
    const cluster = new Cluster({ desired: 1, pods: [pod('n1', through)] });
    cluster.sets.delete('tp-agent');
    cluster.sets.add('tp-restore');
    cluster.failing = 3;
    const { result, said } = await run(cluster);
    expect(result.done).toBe(1);
    expect(said.filter((line) => line.includes('the API server is away')).length).toBe(3);
  });

  it('takes nothing but the DaemonSet of the chart', () => {
    expect(() => parseRestoreDaemonSet({ apiVersion: 'v1', kind: 'Pod' })).toThrow(/not the DaemonSet/);
  });
});
