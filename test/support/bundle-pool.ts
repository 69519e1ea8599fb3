import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCli } from '../../cloud/cli/program.ts';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { type Digest, digestOf } from '../../shared/ids.ts';
import { type Captured, CliCapture, cli } from './cli-capture.ts';
import { eventually } from './hub-fixture.ts';
import { type SecureHub, startSecureHub } from './hub-trust.ts';
import { buildImage, buildIndex, type SampleImage, SampleRegistry } from './registry/index.ts';

const PEER_PORT = 16_185;
const POOL = 'shop-1';
export const ARM = { os: 'linux', architecture: 'arm64', variant: 'v8' };
export const AMD = { os: 'linux', architecture: 'amd64' };

interface Started {
  readonly agent: CliCapture;
  readonly ended: Promise<unknown>;
}

/** A hub with its authority, a registry, and agents that both let in; then hub and registry may go. */
export class BundlePool {
  readonly registry = new SampleRegistry();
  readonly directory = mkdtempSync(join(tmpdir(), 'bundles-'));
  readonly #network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  readonly #agents = new Map<number, Started>();
  #hub: SecureHub | undefined;

  async open(): Promise<void> {
    await this.registry.start();
    this.#hub = await startSecureHub();
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  get hub(): SecureHub {
    if (this.#hub === undefined) throw new Error('the hub is gone');
    return this.#hub;
  }

  /** An image for two platforms, under `reg.example/lab/app:v1`; `seed` makes its own layer, the other is always the same. */
  async image(seed: number, tag = 'v1'): Promise<SampleImage> {
    const [arm, amd] = await Promise.all(
      [ARM, AMD].map((platform, n) =>
        buildImage({
          platform,
          layers: [
            { bytes: 1_500_000, seed: 7 + n },
            { bytes: 400_000, seed: seed * 10 + n },
          ],
        }),
      ),
    );
    if (arm === undefined || amd === undefined) throw new Error('no images');
    const index = buildIndex([amd, arm]);
    this.registry.addImage('lab/app', tag, index);
    return index;
  }

  /** A command line of the hub's. */
  async create(...args: readonly string[]): Promise<{ readonly code: number; readonly err: string }> {
    let err = '';
    const all = ['bundle', 'create', ...args, `--registry=reg.example=${this.registry.url}`];
    const hub = this.#hub;
    const where = hub === undefined ? [] : [`--hub=${hub.url}`, `--data=${hub.fixture.data}`];
    const code = await runCli([...all, ...where], '9.9.9', {
      stdout: { write: () => undefined },
      stderr: {
        write: (text) => {
          err += text;
        },
      },
      signal: new AbortController().signal,
    });
    return { code, err };
  }

  /** Agents that know each other. */
  async start(numbers: readonly number[]): Promise<void> {
    const token = await this.hub.token(POOL, { uses: numbers.length });
    for (const n of numbers) this.#start(n, [`--join=${token}`]);
    for (const n of numbers) {
      const lives = (status: AgentStatus | undefined): boolean =>
        status?.members.filter(({ live }) => live).length === numbers.length - 1;
      await eventually(() => this.status(n), lives, 20_000);
    }
  }

  /** From here on a pool on its own. */
  async cutOff(): Promise<void> {
    await Promise.all([this.registry.stop(), this.#hub?.close()]);
    this.#hub = undefined;
  }

  /** A command line of one agent's node. */
  agent(n: number, ...args: readonly string[]): Promise<Captured> {
    return cli([...args, `--data=${this.path(`n${n}`)}`]);
  }

  async stop(n: number): Promise<void> {
    const started = this.#agents.get(n);
    started?.agent.stop();
    await started?.ended;
    this.#agents.delete(n);
  }

  async status(n: number): Promise<AgentStatus | undefined> {
    const ops = this.#up(n)?.ops;
    try {
      return ops === undefined
        ? undefined
        : ((await (await fetch(`http://${ops}/v1/status`)).json()) as AgentStatus);
    } catch {
      return undefined;
    }
  }

  async get(n: number, path: string): Promise<{ readonly status: number; readonly body: Buffer }> {
    const answer = await fetch(`http://${this.#up(n)?.mirror}/v2/lab/app/${path}?ns=reg.example`);
    return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
  }

  /** Pulls one platform's image by the tag of its index; what came, by digest. @throws Error for a refusal */
  async pull(n: number, image: SampleImage, platform = 0, tag = 'v1'): Promise<Digest[]> {
    const root = await this.get(n, `manifests/${tag}`);
    if (root.status !== 200) throw new Error(root.body.toString());
    const child = image.manifests[1 + platform]?.digest;
    const manifest = await this.get(n, `manifests/${child}`);
    if (manifest.status !== 200) throw new Error(manifest.body.toString());
    const { config, layers }: { config: { digest: Digest }; layers: { digest: Digest }[] } = JSON.parse(
      manifest.body.toString(),
    );
    const got = [digestOf(root.body), digestOf(manifest.body)];
    for (const { digest } of [config, ...layers]) {
      const blob = await this.get(n, `blobs/${digest}`);
      if (blob.status !== 200) throw new Error(blob.body.toString());
      if (digestOf(blob.body) !== digest) throw new Error(`other bytes of ${digest}`);
      got.push(digest);
    }
    return got;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.keys()].map((n) => this.stop(n)));
    await this.cutOff();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #start(n: number, more: readonly string[]): void {
    const agent = new CliCapture();
    const address = `${this.#network}.${n}`;
    const ended = agent.run(
      'run',
      `--node=n${n}`,
      `--address=${address}`,
      `--data=${this.path(`n${n}`)}`,
      `--mirror=${address}:0`,
      `--peer-port=${PEER_PORT}`,
      `--ops=${address}:0`,
      '--cri=none',
      `--registry=reg.example=${this.registry.url}`,
      `--hub=mqtts://${this.hub.fixture.hub.mqtt}`,
      `--enroll-url=${this.hub.url}`,
      ...more,
    );
    this.#agents.set(n, { agent, ended });
  }

  #up(n: number): { readonly ops: string; readonly mirror: string } | undefined {
    return this.#agents
      .get(n)
      ?.agent.stderr.split('\n')
      .filter((line) => line.includes('"agent is up"'))
      .map((line): { ops: string; mirror: string } => JSON.parse(line))
      .at(-1);
  }
}
