import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SampleImage } from './image.ts';
import { listens } from './proc.ts';
import { Daemon, inNetns, mustRun, waitUntil } from './process.ts';
import { script } from './script.ts';
import { CLOUD_ADDRESS, type Topology } from './topology.ts';

/** The name that images carry. Nothing resolves it: a node that goes past its mirror fails. */
export const REGISTRY_NAME = 'registry.lab:5000';
export const ORIGIN_PORT = 5000;
export const ORIGIN_URL = `http://${CLOUD_ADDRESS}:${ORIGIN_PORT}`;
const START_MS = 15_000;

export function repositoryOf(image: SampleImage): string {
  return `lab/${image.name}`;
}

export type ProxyFault = '--no-range' | '--corrupt' | `--bearer=${string}`;

/** The origin: docker-registry in the cloud's namespace, and fronts before it that misbehave where a scenario needs one. */
export class Origin {
  readonly url = ORIGIN_URL;
  readonly #topology: Topology;
  readonly #directory: string;
  readonly #pushed = new Set<string>();
  readonly #proxies: Daemon[] = [];
  #registry: Daemon | undefined;

  constructor(components: { topology: Topology }, init: { directory: string }) {
    this.#topology = components.topology;
    this.#directory = init.directory;
  }

  async start(): Promise<void> {
    const config = join(this.#directory, 'registry.yml');
    writeFileSync(
      config,
      [
        'version: 0.1',
        'log: {level: warn, accesslog: {disabled: true}}',
        `storage: {filesystem: {rootdirectory: ${JSON.stringify(join(this.#directory, 'registry'))}}}`,
        `http: {addr: "${CLOUD_ADDRESS}:${ORIGIN_PORT}"}`,
        '',
      ].join('\n'),
    );
    this.#registry = await this.#listen('docker-registry', this.#topology.cloud, ORIGIN_PORT, [
      'docker-registry',
      'serve',
      config,
    ]);
  }

  /** Pushes an image once a run; every platform of it. */
  async push(image: SampleImage): Promise<void> {
    if (this.#pushed.has(image.name)) return;
    const to = `docker://${CLOUD_ADDRESS}:${ORIGIN_PORT}/${repositoryOf(image)}:v1`;
    await mustRun(
      inNetns(this.#topology.cloud, [
        'skopeo',
        '--insecure-policy',
        'copy',
        '--quiet',
        '--all',
        '--dest-tls-verify=false',
        `oci:${image.layout}:v1`,
        to,
      ]),
      { timeoutMs: 300_000 },
    );
    this.#pushed.add(image.name);
  }

  /** A front with a fault, in any namespace. */
  async startProxy(init: {
    netns: string;
    address: string;
    port: number;
    faults: readonly ProxyFault[];
  }): Promise<void> {
    const command = script(
      'origin-proxy.ts',
      '--listen',
      `${init.address}:${init.port}`,
      '--upstream',
      ORIGIN_URL,
      ...init.faults,
    );
    this.#proxies.push(
      await this.#listen(`origin-proxy ${init.faults.join(' ')}`, init.netns, init.port, command),
    );
  }

  async stopProxies(): Promise<void> {
    for (const proxy of this.#proxies.splice(0)) await proxy.stop();
  }

  async stop(): Promise<void> {
    await this.stopProxies();
    await this.#registry?.stop();
  }

  async #listen(label: string, netns: string, port: number, command: string[]): Promise<Daemon> {
    const daemon = new Daemon({
      label,
      command: inNetns(netns, command),
      logFile: join(this.#directory, `origin-${netns}-${port}.log`),
    });
    await waitUntil(
      () => {
        if (!daemon.running) throw new Error(`${label} ended at once: ${daemon.tail()}`);
        return listens(daemon.pid, port);
      },
      { timeoutMs: START_MS, describe: () => `${label} does not listen on ${port}: ${daemon.tail()}` },
    );
    return daemon;
  }
}
