import { accessSync, constants, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ORIGIN_URL, REGISTRY_NAME } from './origin.ts';
import { Daemon, inNetns, mustRun, type RunResult, run, waitUntil } from './process.ts';
import { removeTree } from './workspace.ts';

/** One containerd on this machine. */
export interface ContainerdRelease {
  readonly directory: string;
  readonly major: number;
  readonly version: string;
}

/** Whom containerd asks: the agent's mirror alone, or the origin as if there were no Tidepool. */
export type Upstream = 'mirror' | 'origin';

const MIRROR_URL = 'http://127.0.0.1:6180';
const START_MS = 20_000;
const DISABLED = [
  'io.containerd.nri.v1.nri',
  'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.internal.v1.tracing',
];
const CRI = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime'];

/** Every major release found in `CONTAINERD_BIN` and on PATH, newest first. */
export async function findReleases(): Promise<ContainerdRelease[]> {
  const directories = [process.env.CONTAINERD_BIN ?? '', ...(process.env.PATH ?? '').split(delimiter)];
  const releases = new Map<number, ContainerdRelease>();
  for (const directory of new Set(directories)) {
    if (!['containerd', 'ctr'].every((name) => directory !== '' && isExecutable(join(directory, name))))
      continue;
    const { stdout } = await mustRun([join(directory, 'ctr'), '--version']);
    const version = /(\d+)\.\d+\.\d+/.exec(stdout);
    const major = Number(version?.[1]);
    if (version !== null && !releases.has(major)) {
      releases.set(major, { directory, major, version: version[0] });
    }
  }
  return [...releases.values()].sort((a, b) => b.major - a.major);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A containerd of one host: root, state, socket and hosts directory of its own. */
export class Containerd {
  readonly release: ContainerdRelease;
  readonly #netns: string;
  readonly #directory: string;
  readonly #upstream: Upstream;
  readonly #cri: boolean;
  #readsHosts = true;
  #daemon: Daemon | undefined;
  #containers = 0;

  constructor(init: {
    netns: string;
    directory: string;
    release: ContainerdRelease;
    upstream: Upstream;
    cri?: boolean;
  }) {
    this.release = init.release;
    this.#netns = init.netns;
    this.#directory = init.directory;
    this.#upstream = init.upstream;
    this.#cri = init.cri ?? false;
  }

  async start(): Promise<void> {
    const config = this.#writeConfig();
    const daemon = new Daemon({
      label: `containerd of ${this.#netns}`,
      command: inNetns(this.#netns, [join(this.release.directory, 'containerd'), '--config', config]),
      logFile: join(this.#directory, 'containerd.log'),
      env: this.#env(),
    });
    this.#daemon = daemon;
    await waitUntil(
      async () => {
        if (!daemon.running) throw new Error(`${daemon.label} ended at once: ${daemon.tail()}`);
        return existsSync(this.socket) && (await this.#ctr(['version'])).code === 0;
      },
      {
        timeoutMs: START_MS,
        everyMs: 50,
        describe: () => `${daemon.label} does not answer: ${daemon.tail()}`,
      },
    );
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  /** kill -9 */
  async kill(): Promise<void> {
    await this.#daemon?.kill();
    this.#daemon = undefined;
  }

  /** Forgets every image, blob and snapshot. */
  async reset(): Promise<void> {
    await this.stop();
    await removeTree(join(this.#directory, 'root'));
    await removeTree(join(this.#directory, 'state'));
    await this.start();
  }

  /** `ctr images pull`: resolve, fetch and unpack. */
  async pull(reference: string, options: { user?: string; timeoutMs?: number } = {}): Promise<RunResult> {
    return await this.#fetch(['images', 'pull'], reference, options);
  }

  /** `ctr content fetch`: resolve and fetch. */
  async fetch(reference: string, options: { user?: string; timeoutMs?: number } = {}): Promise<RunResult> {
    return await this.#fetch(['content', 'fetch'], reference, options);
  }

  /** Runs a container of a pulled image to its end. */
  async runContainer(reference: string, command: readonly string[]): Promise<RunResult> {
    this.#containers += 1;
    const id = `${this.#netns}-${this.#containers}`;
    return await this.#ctr(['run', '--rm', reference, id, ...command]);
  }

  /** Where containerd keeps a blob once it is whole and its digest has been checked. */
  blobPath(digest: string): string {
    return join(this.#content, 'blobs/sha256', digest.replace('sha256:', ''));
  }

  /** Bytes of whole and of half-done blobs in the content store. */
  bytesHeld(): number {
    let total = 0;
    for (const path of [
      ...listFiles(join(this.#content, 'blobs/sha256'), ''),
      ...listFiles(join(this.#content, 'ingest'), 'data'),
    ]) {
      // A file may be renamed between the listing and the look.
      total += statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    }
    return total;
  }

  get #content(): string {
    return join(this.#directory, 'root/io.containerd.content.v1.content');
  }

  get socket(): string {
    return join(this.#directory, 'containerd.sock');
  }

  /** The host's own root directory, as `containerd configure --root` takes it; with CRI containerd's files are there. */
  get hostRoot(): string {
    return join(this.#directory, 'host');
  }

  /** Whether the CRI plugin is told of its hosts directory; from the next start on. */
  set readsHosts(value: boolean) {
    this.#readsHosts = value;
  }

  #env(): Record<string, string> {
    return { PATH: `${this.release.directory}${delimiter}${process.env.PATH ?? ''}` };
  }

  async #fetch(
    verb: readonly string[],
    reference: string,
    options: { user?: string; timeoutMs?: number },
  ): Promise<RunResult> {
    const flags = ['--hosts-dir', join(this.#directory, 'hosts')];
    if (options.user !== undefined) flags.push('--user', options.user);
    return await this.#ctr([...verb, ...flags, reference], options.timeoutMs ?? 600_000);
  }

  #ctr(args: readonly string[], timeoutMs = 60_000): Promise<RunResult> {
    const command = [join(this.release.directory, 'ctr'), '--address', this.socket, ...args];
    // In the host's namespace: 1.6 fetches in the client, 2.x in the daemon.
    return run(inNetns(this.#netns, command), { timeoutMs, env: this.#env() });
  }

  #writeConfig(): string {
    const at = (name: string): string => JSON.stringify(join(this.#directory, name));
    for (const name of ['root', 'state', 'opt']) mkdirSync(join(this.#directory, name), { recursive: true });
    const hosts = join(this.#directory, 'hosts', REGISTRY_NAME);
    mkdirSync(hosts, { recursive: true });
    writeFileSync(join(hosts, 'hosts.toml'), hostsToml(this.#upstream));
    const etc = join(this.hostRoot, 'etc/containerd');
    mkdirSync(join(etc, 'certs.d'), { recursive: true });
    const config = join(this.#cri ? etc : this.#directory, 'config.toml');
    writeFileSync(
      config,
      [
        `version = ${this.#cri && this.release.major >= 2 ? 3 : 2}`,
        `root = ${at('root')}`,
        `state = ${at('state')}`,
        `disabled_plugins = ${JSON.stringify(this.#cri ? DISABLED : [...DISABLED, ...CRI])}`,
        '[grpc]',
        `  address = ${at('containerd.sock')}`,
        '[debug]',
        '  level = "warn"',
        '[plugins."io.containerd.internal.v1.opt"]',
        `  path = ${at('opt')}`,
        ...(this.#cri
          ? criLines(this.release.major, this.#directory, this.#readsHosts ? join(etc, 'certs.d') : undefined)
          : []),
        '',
      ].join('\n'),
    );
    return config;
  }
}

/**
 * `server` is the mirror too: a pull that the mirror refuses must fail instead of going past the pool. The host is named
 * even where it is the server: 1.6 refuses a file without a host table.
 */
function hostsToml(upstream: Upstream): string {
  const url = upstream === 'origin' ? ORIGIN_URL : MIRROR_URL;
  return `server = "${url}"\n\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n`;
}

function criLines(major: number, directory: string, certsDir: string | undefined): string[] {
  const images = major >= 2 ? 'io.containerd.cri.v1.images' : 'io.containerd.grpc.v1.cri';
  const runtime = major >= 2 ? 'io.containerd.cri.v1.runtime' : images;
  return [
    ...(certsDir === undefined
      ? []
      : [`[plugins."${images}".registry]`, `  config_path = ${JSON.stringify(certsDir)}`]),
    `[plugins."${runtime}".cni]`,
    `  conf_dir = ${JSON.stringify(join(directory, 'cni'))}`,
    `  bin_dir${major >= 2 ? 's' : ''} = ${major >= 2 ? '[' : ''}${JSON.stringify(join(directory, 'cni'))}${major >= 2 ? ']' : ''}`,
  ];
}

function listFiles(directory: string, inner: string): string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name, inner)) : [];
}
