import { type Clock, every } from '../../shared/clock.ts';
import type { Logger } from '../../shared/log.ts';
import {
  type DesiredNode,
  type DesiredPool,
  type DesiredPrefetch,
  type DesiredSource,
  type DesiredState,
  type DesiredTuning,
  type DesiredWorkload,
  EMPTY_STATE,
  type Problem,
  type Subject,
} from '../desired/types.ts';
import { FIRST_LISTS_MS, WORKLOADS_MS } from './constants.ts';
import type { KubeApi } from './kube-client.ts';
import { Reflector, type ReflectorTimes } from './reflector.ts';
import {
  type About,
  imagePrefetches,
  nodePools,
  nodes,
  type Resource,
  tuningMap,
  workloads,
} from './resources.ts';

export interface KubeSourceComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly client: KubeApi;
}

export interface KubeSourceInit extends ReflectorTimes {
  /** Where the tuning ConfigMap is. */
  readonly namespace: string;
  /** Whether workloads are of interest now; asked every few seconds. Never, where left out. */
  readonly workloads?: () => boolean;
  /** How long the start waits for the first lists. */
  readonly firstListsMs?: number;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** Desired state from a cluster. Reads only; each resource is followed by itself, so that one that fails stops no other. */
export class KubeSource implements DesiredSource {
  readonly name = 'kubernetes';
  readonly #c: KubeSourceComponents;
  readonly #init: KubeSourceInit;
  readonly #listeners = new Set<() => void>();
  readonly #nodes: Reflector<DesiredNode>;
  readonly #pools: Reflector<DesiredPool>;
  readonly #tuning: Reflector<DesiredTuning>;
  readonly #prefetches: Reflector<DesiredPrefetch>;
  #workloads: readonly Reflector<DesiredWorkload>[] | undefined;
  #state: DesiredState | undefined;
  #onDecided: (() => void) | undefined;
  #cancelWorkloads: (() => void) | undefined;
  #stopping: Promise<unknown> = Promise.resolve();

  constructor(components: KubeSourceComponents, init: KubeSourceInit) {
    this.#c = components;
    this.#init = init;
    this.#nodes = this.#reflector(nodes);
    this.#pools = this.#reflector(nodePools);
    this.#tuning = this.#reflector(tuningMap(init.namespace));
    this.#prefetches = this.#reflector(imagePrefetches);
  }

  /** True once it is known of every resource what there is of it; nothing may be published before. */
  get decided(): boolean {
    return this.#all().every((each) => each.decided);
  }

  /** Resolves when everything was listed, or after a while: an API server that is away must not keep the hub down. */
  async start(): Promise<void> {
    for (const each of this.#all()) each.start();
    if (this.#init.workloads !== undefined) {
      this.#toggleWorkloads();
      this.#cancelWorkloads = every(this.#c.clock, WORKLOADS_MS, () => this.#toggleWorkloads());
    }
    if (this.decided) return;
    await new Promise<void>((resolve) => {
      const ms = this.#init.firstListsMs ?? FIRST_LISTS_MS;
      const cancel = this.#c.clock.after(ms, () => {
        this.#c.log.warn({ problems: this.#problems() }, 'not everything could be listed yet; trying on');
        resolve();
      });
      this.#onDecided = () => {
        cancel();
        resolve();
      };
    });
    this.#onDecided = undefined;
  }

  async stop(): Promise<void> {
    this.#cancelWorkloads?.();
    await Promise.all([...this.#all(), ...(this.#workloads ?? [])].map((each) => each.stop()));
    await this.#stopping;
  }

  current(): DesiredState {
    this.#state ??= this.#assemble();
    return this.#state;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Of the object that a notice or a status is about; undefined for one that the cluster does not have. */
  about({ kind, name }: Subject): About | undefined {
    switch (kind) {
      case 'Node':
        return this.#nodes.about(name);
      case 'NodePool':
        return this.#pools.about(name);
      case 'ConfigMap':
        return this.#tuning.about(name.includes('/') ? name : `${this.#init.namespace}/${name}`);
      case 'ImagePrefetch':
        return this.#prefetches.about(name);
    }
  }

  /** Jobs that cannot be read, and why. */
  flaws(): readonly { readonly subject: Subject; readonly message: string }[] {
    return [...this.#prefetches.flaws()].map(({ source, message }) => ({
      subject: { kind: 'ImagePrefetch', name: source.replace(/^ImagePrefetch /, '') },
      message,
    }));
  }

  #all(): readonly Reflector<DesiredNode | DesiredPool | DesiredTuning | DesiredPrefetch>[] {
    return [this.#nodes, this.#pools, this.#tuning, this.#prefetches];
  }

  #reflector<T>(resource: Resource<T>): Reflector<T> {
    const onChange = (): void => this.#changed();
    const { random = Math.random } = this.#init;
    return new Reflector({ ...this.#c, onChange, random }, resource, this.#init);
  }

  #toggleWorkloads(): void {
    const wanted = this.#init.workloads?.() ?? false;
    const running = this.#workloads;
    if (wanted && running === undefined) {
      this.#workloads = workloads.map((resource) => this.#reflector(resource));
      for (const each of this.#workloads) each.start();
    } else if (!wanted && running !== undefined) {
      this.#workloads = undefined;
      this.#stopping = Promise.all(running.map((each) => each.stop()));
      this.#changed();
    }
  }

  #changed(): void {
    this.#state = undefined;
    if (this.#onDecided !== undefined && this.decided) this.#onDecided();
    for (const listener of this.#listeners) listener();
  }

  #assemble(): DesiredState {
    const [tuning] = this.#tuning.values();
    return {
      ...EMPTY_STATE,
      nodes: [...this.#nodes.values()],
      pools: [...this.#pools.values()],
      tuning,
      prefetches: [...this.#prefetches.values()],
      ...(this.#workloads === undefined
        ? {}
        : { workloads: this.#workloads.flatMap((each) => [...each.values()]) }),
      problems: this.#problems(),
    };
  }

  /** Each once: an API server that is away is one problem, not one a resource. */
  #problems(): readonly Problem[] {
    const found = new Map<string, Problem>();
    for (const each of [...this.#all(), ...(this.#workloads ?? [])]) {
      for (const problem of [...(each.problem === undefined ? [] : [each.problem]), ...each.flaws()]) {
        found.set(`${problem.source} ${problem.message}`, problem);
      }
    }
    return [...found.values()];
  }
}
