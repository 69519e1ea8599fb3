import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Skip } from './checks.ts';
import { askHub } from './hub-api.ts';
import { listens } from './proc.ts';
import { Daemon, inNetns, mustRun, waitUntil } from './process.ts';
import { CLOUD_ADDRESS, type Topology } from './topology.ts';

const API_PORT = 6198;
const MQTT_PORT = 6199;
const START_MS = 20_000;
/** A host that is set up anew enrols anew. */
const USES = 500;

/**
 * The hub that hosts of pools without a control plane of their own enrol at: one token a pool is all that a person copies.
 * Afterwards these agents find each other by address, and need the hub no more.
 */
export class Gatekeeper {
  /** Where its broker is, as agents find it. */
  readonly broker = `mqtts://${CLOUD_ADDRESS}:${MQTT_PORT}`;
  readonly #topology: Topology;
  readonly #bundle: string;
  readonly #directory: string;
  readonly #tokens = new Map<string, Promise<string>>();
  #hub: Daemon | undefined;

  constructor(components: { topology: Topology }, init: { bundle: string; directory: string }) {
    this.#topology = components.topology;
    this.#bundle = init.bundle;
    this.#directory = init.directory;
  }

  /** What an agent of that pool is started with. @throws Skip where there is no hub to run */
  async flags(pool: string): Promise<readonly string[]> {
    await this.#start();
    let token = this.#tokens.get(pool);
    if (token === undefined) {
      token = this.#token(pool);
      this.#tokens.set(pool, token);
    }
    const file = join(this.#directory, `${pool}.token`);
    writeFileSync(file, await token, { mode: 0o600 });
    return [`--join-file=${file}`, `--enroll-url=https://${CLOUD_ADDRESS}:${API_PORT}`, '--replace'];
  }

  /** What it works from; watched. */
  get documents(): string {
    return join(this.#directory, 'documents');
  }

  async stop(): Promise<void> {
    await this.#hub?.stop();
    this.#hub = undefined;
  }

  /** kill -9 */
  async kill(): Promise<void> {
    await this.#hub?.kill();
    this.#hub = undefined;
  }

  async start(): Promise<void> {
    await this.#start();
  }

  /** An answer of the hub's API. */
  get<T>(route: string): Promise<T> {
    return askHub<T>({ netns: this.#topology.cloud, data: this.#data, port: API_PORT }, route);
  }

  async #start(): Promise<void> {
    if (this.#hub !== undefined) return;
    if (!existsSync(this.#bundle)) throw new Skip(`${this.#bundle} is not there: npm run build`);
    mkdirSync(this.documents, { recursive: true });
    const daemon = new Daemon({
      label: 'gatekeeper',
      logFile: join(this.#directory, 'gatekeeper.log'),
      command: inNetns(this.#topology.cloud, [
        process.execPath,
        this.#bundle,
        'run',
        `--documents=${this.documents}`,
        `--mqtt=${CLOUD_ADDRESS}:${MQTT_PORT}`,
        `--api=0.0.0.0:${API_PORT}`,
        `--data=${this.#data}`,
      ]),
    });
    this.#hub = daemon;
    await waitUntil(
      () => {
        if (!daemon.running) throw new Error(`the gatekeeper ended at once: ${daemon.tail()}`);
        return listens(daemon.pid, API_PORT);
      },
      { timeoutMs: START_MS, describe: () => `the gatekeeper does not listen: ${daemon.tail()}` },
    );
  }

  #token(pool: string): Promise<string> {
    return makeToken({
      netns: this.#topology.cloud,
      bundle: this.#bundle,
      pool,
      hub: `https://${CLOUD_ADDRESS}:${API_PORT}`,
      data: this.#data,
    });
  }

  get #data(): string {
    return join(this.#directory, 'gatekeeper');
  }
}

/** What a person copies to the nodes of a pool, as the hub's own command prints it. */
export async function makeToken(init: {
  netns: string;
  bundle: string;
  pool: string;
  /** The hub's API. */
  hub: string;
  /** Its data directory. */
  data: string;
}): Promise<string> {
  const { stdout } = await mustRun(
    inNetns(init.netns, [
      process.execPath,
      init.bundle,
      'token',
      'create',
      `--pool=${init.pool}`,
      `--uses=${USES}`,
      '--ttl=12h',
      '--json',
      `--hub=${init.hub}`,
      `--data=${init.data}`,
    ]),
  );
  const made: unknown = JSON.parse(stdout);
  if (typeof made === 'object' && made !== null && 'token' in made) return String(made.token);
  throw new Error('the hub made no token');
}
