import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HubClient } from '../../cloud/cli/hub-client.ts';
import { formatImageRef } from '../../shared/image-ref.ts';
import { readRoots } from '../../shared/trust/certificate.ts';
import type { PrefetchDetailView } from '../../shared/wire/api.ts';
import { mustRun, waitUntil } from '../lab/process.ts';
import type { Bundles } from '../support/bundles.ts';
import type { Cleanup } from '../support/cleanup.ts';
import { freePort } from '../support/free-port.ts';
import {
  type AgentProcess,
  type HubProcess,
  makeJoinToken,
  startAgent,
  startHub,
} from '../support/processes.ts';
import { hostPlatform } from '../support/registry/index.ts';
import { type Pulled, pullImage } from '../support/runtime-pull.ts';
import { PREFETCH_ID, writeCluster, writePrefetch } from './documents.ts';
import type { PoolProgress } from './progress.ts';
import { type ImageSource, wantedReference } from './sources.ts';

const POOLS = [1, 2];
const AGENTS = ['a', 'b', 'c'];
const POLL_MS = 250;
const ONLINE_MS = 20_000;

export interface PoolResult {
  readonly pool: string;
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly seconds: number;
}

export interface OfflineResult extends PoolResult {
  readonly node: string;
  readonly imageBytes: number;
  readonly digest: string;
}

export interface DemoResult {
  readonly pools: readonly PoolResult[];
  readonly offline: OfflineResult;
  /** Agents whose copy was read and hashed, the newcomer included. */
  readonly verified: number;
  /** `NODE: sha256:…` of bytes that did not match. */
  readonly wrong: readonly string[];
}

interface DemoComponents {
  readonly source: ImageSource;
  readonly cleanup: Cleanup;
  readonly progress: PoolProgress;
  readonly say: (text: string) => void;
}

interface DemoInit {
  readonly bundles: Bundles;
  readonly directory: string;
  /** Gives up when nothing has ended by then. */
  readonly prefetchMs: number;
}

interface PoolOfAgents {
  readonly octet: number;
  readonly name: string;
  readonly agents: AgentProcess[];
}

/** The story: a hub and two pools, an image into both, then registry and hub gone, and a newcomer that pulls it by tag. */
export class Demo {
  readonly #c: DemoComponents;
  readonly #init: DemoInit;
  readonly #documents: string;
  readonly #tokens = new Map<string, string>();
  readonly #pools: PoolOfAgents[] = POOLS.map((octet) => ({ octet, name: `pool-${octet}`, agents: [] }));

  constructor(components: DemoComponents, init: DemoInit) {
    this.#c = components;
    this.#init = init;
    this.#documents = join(init.directory, 'documents');
  }

  /** @throws when a part does not come up or a pull fails; the signal's reason when it ends the demo */
  async run(signal: AbortSignal): Promise<DemoResult> {
    const { source, say } = this.#c;
    const hub = await this.#startAll(signal);
    const token = readFileSync(join(hub.data, 'admin-token'), 'utf8').trim();
    const trust = { roots: readRoots(readFileSync(join(hub.data, 'trust', 'ca.pem'), 'utf8')) };
    const api = new HubClient({ url: hub.api, signal, trust, token });
    await this.#allOnline(api);
    say(`${source.about}\nhub and ${POOLS.length} pools of ${AGENTS.length} agents are up; prefetching\n`);
    const pools = await this.#prefetch(api, signal);

    await this.#enrolNewcomer(hub, signal);
    say('\nstopping hub and registry; a new agent joins pool-1 and pulls the image by tag\n');
    await Promise.all([hub.stop(), source.stop()]);
    const { offline, pulled } = await this.#pullOffline(signal);

    const wrong = pulled.wrong.map((digest) => `${offline.node}: ${digest}`);
    const others = this.#pools.flatMap(({ agents }) => agents).filter(({ node }) => node !== offline.node);
    for (const agent of others) {
      const copy = await this.#pull(agent, pulled.digest, signal);
      wrong.push(...copy.wrong.map((digest) => `${agent.node}: ${digest}`));
    }
    return { pools, offline, verified: others.length + 1, wrong };
  }

  async #startAll(signal: AbortSignal): Promise<HubProcess> {
    const { cleanup, source } = this.#c;
    const { bundles, directory } = this.#init;
    const planned = await Promise.all(
      this.#pools.flatMap((pool) =>
        AGENTS.map(async (letter, index) => {
          const address = `127.0.${pool.octet}.${index + 1}`;
          return { pool, node: `${pool.name}-${letter}`, address, peerPort: await freePort(address) };
        }),
      ),
    );
    writeCluster(
      this.#documents,
      planned.map(({ pool, node, address, peerPort }) => ({
        node,
        pool: pool.name,
        address: `${address}:${peerPort}`,
      })),
    );
    signal.throwIfAborted();
    const hub = await startHub(cleanup, {
      bundle: bundles.hub,
      directory,
      documents: this.#documents,
      flags: source.hubFlags,
    });
    signal.throwIfAborted();
    for (const { name } of this.#pools) {
      // One more than there are agents: for the newcomer.
      const token = await makeJoinToken(hub, { bundle: bundles.hub, pool: name, uses: AGENTS.length + 1 });
      this.#tokens.set(name, token);
    }
    await Promise.all(
      planned.map(async ({ pool, node, address, peerPort }) => {
        const flags = [`--hub=${hub.broker}`, `--enroll-url=${hub.api}`, ...source.flags(address)];
        const agent = await startAgent(cleanup, {
          bundle: bundles.agent,
          directory,
          node,
          pool: pool.name,
          address,
          peerPort,
          join: this.#tokenOf(pool.name),
          flags,
        });
        pool.agents.push(agent);
      }),
    );
    signal.throwIfAborted();
    return hub;
  }

  /** A box that is prepared while there is a hub, and comes to the site when there is none. */
  async #enrolNewcomer(hub: HubProcess, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { bundles, directory } = this.#init;
    const [pool] = this.#pools;
    if (pool === undefined) throw new Error('there is no pool');
    const node = newcomerOf(pool);
    await mustRun([
      process.execPath,
      bundles.agent,
      'enroll',
      `--node=${node}`,
      `--data=${join(directory, node)}`,
      `--join=${this.#tokenOf(pool.name)}`,
      `--enroll-url=${hub.api}`,
    ]);
  }

  #tokenOf(pool: string): string {
    const token = this.#tokens.get(pool);
    if (token === undefined) throw new Error(`there is no token for ${pool}`);
    return token;
  }

  /** Until a newcomer has greeted those of its pool: a pull before that has nobody to ask. */
  async #acquainted(newcomer: AgentProcess, pool: PoolOfAgents): Promise<void> {
    let known = 0;
    await waitUntil(
      async () => {
        known = (await newcomer.status()).members.filter(({ live }) => live).length;
        return known >= pool.agents.length;
      },
      {
        timeoutMs: ONLINE_MS,
        everyMs: 20,
        describe: () => `the newcomer knows ${known} of ${pool.agents.length} neighbours`,
      },
    );
  }

  /** Until every agent has said who it is and has its tuning. */
  async #allOnline(api: HubClient): Promise<void> {
    let seen = '';
    await waitUntil(
      async () => {
        const pools = await api.pools();
        seen = pools.map(({ pool, online, tuned }) => `${pool}: ${online} online, ${tuned} tuned`).join('; ');
        return (
          pools.length === POOLS.length &&
          pools.every(({ online, tuned }) => online === AGENTS.length && tuned === AGENTS.length)
        );
      },
      { timeoutMs: ONLINE_MS, everyMs: 100, describe: () => `not every agent came to the hub (${seen})` },
    );
  }

  async #prefetch(api: HubClient, signal: AbortSignal): Promise<readonly PoolResult[]> {
    const { source, progress } = this.#c;
    const started = performance.now();
    const elapsed = (): number => (performance.now() - started) / 1000;
    writePrefetch(
      this.#documents,
      formatImageRef(source.image),
      this.#pools.map(({ name }) => name),
    );
    const ended = new Map<string, number>();
    for (;;) {
      const view = await jobOf(api);
      for (const { pool, desired, succeeded } of view?.pools ?? []) {
        if (desired > 0 && succeeded === desired && !ended.has(pool)) ended.set(pool, elapsed());
      }
      const [failed] = view?.failedNodes ?? [];
      if (failed !== undefined) throw new Error(`${failed.node} could not prefetch: ${failed.message}`);
      if (view !== undefined && ended.size === POOLS.length) {
        progress.end(view.pools);
        return await Promise.all(this.#pools.map((pool) => this.#poolResult(pool, ended, view)));
      }
      if (elapsed() * 1000 > this.#init.prefetchMs) {
        throw new Error(`the prefetch has not ended after ${Math.round(elapsed())} s`);
      }
      if (view !== undefined) progress.show(view.pools);
      await delay(POLL_MS, undefined, { signal });
    }
  }

  async #poolResult(
    { octet, name, agents }: PoolOfAgents,
    ended: ReadonlyMap<string, number>,
    view: PrefetchDetailView,
  ): Promise<PoolResult> {
    return {
      pool: name,
      wanBytes: await this.#c.source.wanBytes(octet, agents),
      peerBytes: view.pools.find(({ pool }) => pool === name)?.peerBytes ?? 0,
      seconds: ended.get(name) ?? Number.NaN,
    };
  }

  async #pullOffline(signal: AbortSignal): Promise<{ offline: OfflineResult; pulled: Pulled }> {
    const { source, cleanup } = this.#c;
    const [pool] = this.#pools;
    if (pool === undefined) throw new Error('there is no pool');
    const before = await source.wanBytes(pool.octet, pool.agents);
    const address = `127.0.${pool.octet}.${AGENTS.length + 1}`;
    const newcomer = await startAgent(cleanup, {
      bundle: this.#init.bundles.agent,
      directory: this.#init.directory,
      node: newcomerOf(pool),
      pool: pool.name,
      address,
      peerPort: await freePort(address),
      peers: pool.agents.map(({ peer }) => peer),
      join: this.#tokenOf(pool.name),
      flags: await source.flagsWithout(address),
    });
    await this.#acquainted(newcomer, pool);
    pool.agents.push(newcomer);
    const pulled = await this.#pull(newcomer, wantedReference(source.image), signal);
    const { counters } = await newcomer.status();
    return {
      pulled,
      offline: {
        pool: pool.name,
        node: newcomer.node,
        // What it says itself counts too: a registry that is gone cannot count.
        wanBytes: Math.max(counters.wanBytes, (await source.wanBytes(pool.octet, pool.agents)) - before),
        peerBytes: counters.peerBytes,
        seconds: pulled.seconds,
        imageBytes: pulled.blobBytes,
        digest: pulled.digest,
      },
    };
  }

  #pull(agent: AgentProcess, reference: string, signal: AbortSignal): Promise<Pulled> {
    const { registry, repository } = this.#c.source.image;
    return pullImage({
      mirror: agent.mirror,
      registry,
      repository,
      reference,
      platform: hostPlatform(),
      signal,
    });
  }
}

function newcomerOf(pool: PoolOfAgents): string {
  return `${pool.name}-new`;
}

/** Undefined until the hub has read the document. */
async function jobOf(api: HubClient): Promise<PrefetchDetailView | undefined> {
  const jobs = await api.prefetches();
  return jobs.some(({ id }) => id === PREFETCH_ID) ? await api.prefetch(PREFETCH_ID) : undefined;
}
