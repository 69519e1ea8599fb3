import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { type Agent, createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import { createLogger } from '../../shared/log.ts';
import { HostileRegistry } from './hostile-registry.ts';
import { buildImage, type SampleImage, SampleRegistry } from './registry/index.ts';

export const ACCOUNT = { username: 'puller', password: 'correct horse battery' };
export const WRONG = { username: 'puller', password: 'a wrong guess' };
const PEER_PORT = 16_181;

type Account = typeof ACCOUNT;

export interface Ask {
  readonly as?: Account;
  readonly registry?: string;
  readonly method?: string;
}

/**
 * Agents before three registries: `priv.example`, where `secret/app` needs an account and `open/app` does not, `evil.example`,
 * which agrees to everything, and `twin.example`, an honest one that anybody may read.
 */
export class PrivatePool {
  readonly registry = new SampleRegistry({ auth: { kind: 'bearer', ...ACCOUNT, open: ['open/app'] } });
  readonly twin = new SampleRegistry();
  readonly evil = new HostileRegistry();
  /** Everything that the agents have logged. */
  log = '';
  readonly #directory = mkdtempSync(join(tmpdir(), 'private-'));
  readonly #network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  readonly #agents = new Map<number, Agent>();

  async open(): Promise<void> {
    await Promise.all([this.registry.start(), this.twin.start(), this.evil.start()]);
  }

  address(n: number): string {
    return `${this.#network}.${n}`;
  }

  peer(n: number): string {
    return `${this.address(n)}:${PEER_PORT}`;
  }

  async start(n: number, peers: readonly number[] = [], yaml = ''): Promise<void> {
    const address = this.address(n);
    const settings = loadSettings(
      {
        node: `n${n}`,
        address,
        data: join(this.#directory, `n${n}`),
        mirror: `${address}:0`,
        peerPort: String(PEER_PORT),
        ops: `${address}:0`,
        peers: peers.map((peer) => this.peer(peer)).join(','),
        pool: 'shop',
        registry: [
          `priv.example=${this.registry.url}`,
          `evil.example=${this.evil.url}`,
          `twin.example=${this.twin.url}`,
        ],
        sourceAddress: address,
        insecure: true,
        logLevel: 'trace',
      },
      'agent.yaml',
      { ...thisMachine, readFile: () => yaml },
    );
    const destination = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.log += chunk.toString();
        done();
      },
    });
    const agent = createAgent(settings, { log: createLogger('tidepool-agent', 'trace', destination) });
    await agent.start();
    this.#agents.set(n, agent);
  }

  async stop(n: number): Promise<void> {
    await this.#agents.get(n)?.stop();
    this.#agents.delete(n);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.keys()].map((n) => this.stop(n)));
    await Promise.all([this.registry.stop(), this.twin.stop(), this.evil.stop()]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Waits until a node has this many live neighbours. */
  async untilLive(n: number, members: number): Promise<void> {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.ops ?? {};
    for (;;) {
      const status = (await (await fetch(`http://${address}:${port}/v1/status`)).json()) as {
        members: { live: boolean }[];
      };
      if (status.members.filter(({ live }) => live).length >= members) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** `address:port` that runtimes pull from. */
  mirrorAddress(n: number): string {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.mirror ?? {};
    return `${address}:${port}`;
  }

  ask(n: number, path: string, init: Ask = {}): Promise<Response> {
    const { as, method = 'GET', registry = 'priv.example' } = init;
    return fetch(`http://${this.mirrorAddress(n)}/v2/${path}?ns=${registry}`, {
      method,
      headers:
        as === undefined
          ? {}
          : { authorization: `Basic ${Buffer.from(`${as.username}:${as.password}`).toString('base64')}` },
    });
  }

  /** The status of an answer, and its bytes. */
  async get(n: number, path: string, init: Ask = {}): Promise<{ status: number; body: Buffer }> {
    const answer = await this.ask(n, path, init);
    try {
      return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
    } catch {
      return { status: 0, body: Buffer.alloc(0) };
    }
  }

  /** What comes of a range of a blob. */
  async range(n: number, path: string, first: number, last: number, init: Ask = {}): Promise<Buffer> {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.mirror ?? {};
    const url = `http://${address}:${port}/v2/${path}?ns=${init.registry ?? 'priv.example'}`;
    const answer = await fetch(url, { headers: { range: `bytes=${first}-${last}` } });
    return Buffer.from(await answer.arrayBuffer().catch(() => new ArrayBuffer(0)));
  }

  /** All that a node has written down, blobs left out. */
  async disk(n: number): Promise<Buffer> {
    const directory = join(this.#directory, `n${n}`);
    const files = (await readdir(directory)).filter((file) => file.startsWith('index.db'));
    return Buffer.concat(await Promise.all(files.map((file) => readFile(join(directory, file)))));
  }

  /** Pulls all of an image by tag; the statuses of the answers. */
  async pull(n: number, repository: string, image: SampleImage, init: Ask = {}): Promise<number[]> {
    const { status } = await this.get(n, `${repository}/manifests/v1`, init);
    const blobs = await Promise.all(
      image.blobs.map(({ digest }) => this.get(n, `${repository}/blobs/${digest}`, init)),
    );
    return [status, ...blobs.map((blob) => blob.status)];
  }

  image(seed: number, bytes = 600_000): Promise<SampleImage> {
    return buildImage({ layers: [{ bytes, seed }] });
  }
}
