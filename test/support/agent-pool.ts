import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Agent, type AgentSurroundings, createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { type Digest, digestOf } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { buildImage, type ImageInit, type SampleImage, SampleRegistry } from './registry/index.ts';

export const REPOSITORY = 'lab/app';
const PEER_PORT = 16_181;

export interface StartInit {
  /** Numbers of the neighbours given by hand, or `address:port`. */
  readonly peers?: readonly (number | string)[];
  readonly pool?: string;
  /** The settings file's text: tuning. */
  readonly yaml?: string;
  readonly hub?: string;
  /** File of what the hub would say. */
  readonly bootstrap?: string;
  /** What the agent finds around it, besides a log that nobody reads. */
  readonly surroundings?: Partial<AgentSurroundings>;
}

/** Whole agents in this process, each at a loopback address of its own, and a sample registry for them all. */
export class AgentPool {
  readonly registry = new SampleRegistry();
  readonly #directory = mkdtempSync(join(tmpdir(), 'agents-'));
  /** Other tests use other networks. */
  readonly #network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  readonly #agents = new Map<number, Agent>();

  address(n: number): string {
    return `${this.#network}.${n}`;
  }

  /** Where neighbours and other pools reach it. */
  peer(n: number): string {
    return `${this.address(n)}:${PEER_PORT}`;
  }

  /** Its data directory. */
  data(n: number): string {
    return join(this.#directory, `n${n}`);
  }

  async start(n: number, init: StartInit = {}): Promise<void> {
    const address = this.address(n);
    const peers = (init.peers ?? []).map((peer) => (typeof peer === 'number' ? this.peer(peer) : peer));
    const settings = loadSettings(
      {
        node: `n${n}`,
        address,
        data: this.data(n),
        mirror: `${address}:0`,
        peerPort: String(PEER_PORT),
        ops: `${address}:0`,
        peers: peers.join(','),
        registry: [`reg.example=${this.registry.url}`],
        sourceAddress: address,
        insecure: true,
        ...(init.pool === undefined ? {} : { pool: init.pool }),
        ...(init.hub === undefined ? {} : { hub: [init.hub] }),
        ...(init.bootstrap === undefined ? {} : { bootstrap: init.bootstrap }),
      },
      'agent.yaml',
      { ...thisMachine, readFile: () => init.yaml ?? '' },
    );
    const agent = createAgent(settings, { log: silentLogger(), ...init.surroundings });
    await agent.start();
    this.#agents.set(n, agent);
  }

  /** Starts agents that know each other, and waits until they do. */
  async startAll(numbers: readonly number[], init: StartInit = {}): Promise<void> {
    await Promise.all(
      numbers.map((n) => this.start(n, { ...init, peers: numbers.filter((other) => other !== n) })),
    );
    await Promise.all(numbers.map((n) => this.untilLive(n, numbers.length - 1)));
  }

  async untilLive(n: number, members: number): Promise<void> {
    for (;;) {
      const status = await this.status(n);
      if (status.members.filter(({ live }) => live).length >= members) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async stop(n: number): Promise<void> {
    await this.#agents.get(n)?.stop();
    this.#agents.delete(n);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.keys()].map((n) => this.stop(n)));
    await this.registry.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async image(layers: ImageInit['layers'], tag = 'v1'): Promise<SampleImage> {
    const image = await buildImage({ layers });
    this.registry.addImage(REPOSITORY, tag, image);
    return image;
  }

  /** `address:port` that runtimes pull from. */
  mirrorAddress(n: number): string {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.mirror ?? {};
    return `${address}:${port}`;
  }

  mirror(n: number, path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://${this.mirrorAddress(n)}/v2/${REPOSITORY}/${path}?ns=reg.example`, init);
  }

  /** One blob whole; the digest of what came. @throws Error for an answer other than 200 */
  async blob(n: number, digest: Digest, signal?: AbortSignal): Promise<Digest> {
    const answer = await this.mirror(n, `blobs/${digest}`, signal === undefined ? {} : { signal });
    const body = Buffer.from(await answer.arrayBuffer());
    if (answer.status !== 200) throw new Error(`${answer.status}: ${body.toString()}`);
    return digestOf(body);
  }

  /** Pulls as a runtime does, by tag; the digests of what came, the manifest's first. */
  async pull(n: number, image: SampleImage, tag = 'v1'): Promise<string[]> {
    const manifest = await this.mirror(n, `manifests/${tag}`);
    const bytes = Buffer.from(await manifest.arrayBuffer());
    if (manifest.status !== 200) throw new Error(`${manifest.status}: ${bytes.toString()}`);
    const blobs = await Promise.all(image.blobs.map(({ digest }) => this.blob(n, digest)));
    return [digestOf(bytes), ...blobs];
  }

  ops(n: number, path: string): Promise<Response> {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.ops ?? {};
    return fetch(`http://${address}:${port}${path}`);
  }

  async status(n: number): Promise<AgentStatus> {
    return (await (await this.ops(n, '/v1/status')).json()) as AgentStatus;
  }

  /** Bytes that these agents have read from beyond the pool since they started. */
  async wanBytes(numbers: readonly number[]): Promise<number> {
    const all = await Promise.all(numbers.map((n) => this.status(n)));
    return all.reduce((sum, { counters }) => sum + counters.wanBytes, 0);
  }

  /** Requests for blobs that the registry got from one agent. */
  originReads(n: number): number {
    const address = this.address(n);
    return this.registry.requests.filter(
      (request) => request.kind === 'blob' && request.method === 'GET' && request.address === address,
    ).length;
  }
}

/** All digests of an image, as {@link AgentPool.pull} answers them. */
export function digestsOf(image: SampleImage): string[] {
  return [image.digest, ...image.blobs.map(({ digest }) => digest)];
}
