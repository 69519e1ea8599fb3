import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REGISTRY_NAME } from './origin.ts';
import { cpuSeconds, listens, memoryMib } from './proc.ts';
import { Daemon, inNetns, waitUntil } from './process.ts';
import { removeTree } from './workspace.ts';

export const MIRROR_PORT = 6180;
export const PEER_PORT = 6181;
export const OPS_PORT = 6182;
const START_MS = 20_000;

export interface AgentInit {
  readonly bundle: string;
  readonly netns: string;
  readonly node: string;
  readonly pool: string;
  readonly address: string;
  /** Addresses of every member of the pool, this one included. */
  readonly members: readonly string[];
  readonly directory: string;
  readonly origin: string;
  readonly extraFlags: readonly string[];
  /** How it gets its certificate; nothing: plain connections. */
  readonly trust: readonly string[];
  /** A broker of the hub; neighbours are told by the hub then, not by flags. */
  readonly hub?: string;
  /** containerd's CRI socket, and the host's root directory that has its files. */
  readonly cri?: { readonly socket: string; readonly hostRoot: string };
}

/** A tidepool-agent of one host, as a process of its own. */
export class AgentProcess {
  readonly #init: AgentInit;
  #address: string;
  #env: Readonly<Record<string, string>> = {};
  #daemon: Daemon | undefined;
  /** Processor seconds of processes that have ended. */
  #spentCpu = 0;

  constructor(init: AgentInit) {
    this.#init = init;
    this.#address = init.address;
  }

  /** Where it is from its next start on. */
  set address(address: string) {
    this.#address = address;
  }

  /** Beside the lab's own environment, from its next start on. */
  set env(env: Readonly<Record<string, string>>) {
    this.#env = env;
  }

  get data(): string {
    return join(this.#init.directory, 'agent');
  }

  get logFile(): string {
    return join(this.#init.directory, 'agent.log');
  }

  async start(): Promise<void> {
    const { node, pool, members, origin, bundle, hub } = this.#init;
    const address = this.#address;
    mkdirSync(this.data, { recursive: true });
    const others = hub === undefined ? members.filter((member) => member !== address) : [];
    const daemon = new Daemon({
      label: `agent ${node}`,
      command: inNetns(this.#init.netns, [
        process.execPath,
        bundle,
        'run',
        `--node=${node}`,
        `--pool=${pool}`,
        `--address=${address}`,
        `--data=${this.data}`,
        `--mirror=127.0.0.1:${MIRROR_PORT}`,
        `--peer-port=${PEER_PORT}`,
        `--ops=127.0.0.1:${OPS_PORT}`,
        ...(others.length > 0 ? [`--peers=${others.map((other) => `${other}:${PEER_PORT}`).join(',')}`] : []),
        ...(hub === undefined ? [] : [`--hub=${hub}`]),
        `--registry=${REGISTRY_NAME}=${origin}`,
        `--cri=${this.#init.cri?.socket ?? 'none'}`,
        ...this.#configFlag(),
        ...(this.#init.trust.length === 0 ? ['--insecure'] : this.#init.trust),
        ...this.#init.extraFlags,
      ]),
      logFile: this.logFile,
      env: this.#env,
    });
    this.#daemon = daemon;
    await waitUntil(
      () => {
        if (!daemon.running) throw new Error(`${daemon.label} ended at once: ${daemon.tail()}`);
        return [MIRROR_PORT, PEER_PORT, OPS_PORT].every((port) => listens(daemon.pid, port));
      },
      { timeoutMs: START_MS, describe: () => `${daemon.label} does not listen: ${daemon.tail()}` },
    );
  }

  async stop(): Promise<void> {
    this.#account();
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  /** It neither runs nor ends, and its connections stay: as a process that hangs. */
  freeze(): void {
    this.#daemon?.signal('SIGSTOP');
  }

  thaw(): void {
    this.#daemon?.signal('SIGCONT');
  }

  /** kill -9 */
  async kill(): Promise<void> {
    this.#account();
    await this.#daemon?.kill();
    this.#daemon = undefined;
  }

  /** Forgets everything it has stored. */
  async reset(): Promise<void> {
    await this.stop();
    await removeTree(this.data);
    await this.start();
  }

  /** Over all its lives. */
  get cpuSeconds(): number {
    return this.#spentCpu + (this.#daemon?.running === true ? cpuSeconds(this.#daemon.pid) : 0);
  }

  /** MiB; zeros when it does not run. */
  get memoryMib(): { now: number; peak: number } {
    return this.#daemon?.running === true ? memoryMib(this.#daemon.pid) : { now: 0, peak: 0 };
  }

  get running(): boolean {
    return this.#daemon?.running === true;
  }

  #configFlag(): string[] {
    if (this.#init.cri === undefined) return [];
    const file = join(this.#init.directory, 'agent.yaml');
    writeFileSync(file, `runtime: {hostRoot: ${JSON.stringify(this.#init.cri.hostRoot)}}\n`);
    return [`--config=${file}`];
  }

  #account(): void {
    if (this.#daemon?.running === true) this.#spentCpu += cpuSeconds(this.#daemon.pid);
  }
}
