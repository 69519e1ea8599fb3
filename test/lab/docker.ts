import { accessSync, constants, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Daemon, inNetns, type RunResult, run, waitUntil } from './process.ts';
import { removeTree } from './workspace.ts';

const START_MS = 40_000;
const CACHED = /^docker-\d/;
/** Of a net kept for documentation: no name server answers there, as beyond an uplink that is cut. */
const NAME_SERVER = '192.0.2.53';
/** Runs a command with two files of /etc that are its own. */
const WITH_ETC =
  'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"';

/** A directory with `dockerd` and `docker`: on PATH, or where `test/docker/fetch.sh` puts them. */
export function findDocker(): string | undefined {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tidepool');
  const cached = existsSync(cache) ? readdirSync(cache).filter((name) => CACHED.test(name)) : [];
  const candidates = [
    ...(process.env.PATH ?? '').split(delimiter),
    ...cached.sort().map((name) => join(cache, name)),
  ];
  return candidates.find((directory) =>
    ['dockerd', 'docker'].every((name) => directory !== '' && isExecutable(join(directory, name))),
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * A docker of one host with data, socket and containerd of its own. It pulls through a mirror, as its daemon.json says, and
 * finds docker.io in its hosts file, as the README says: a dockerd before 28 looks that name up ahead of every pull.
 */
export class Docker {
  readonly #binaries: string;
  readonly #netns: string;
  readonly #directory: string;
  readonly #mirror: string;
  #daemon: Daemon | undefined;

  constructor(init: { binaries: string; netns: string; directory: string; mirror: string }) {
    this.#binaries = init.binaries;
    this.#netns = init.netns;
    this.#directory = init.directory;
    this.#mirror = init.mirror;
  }

  async start(): Promise<void> {
    const etc = join(this.#directory, 'etc');
    mkdirSync(etc, { recursive: true });
    writeFileSync(join(etc, 'hosts'), '127.0.0.1 localhost\n127.0.0.1 docker.io\n');
    writeFileSync(join(etc, 'resolv.conf'), `nameserver ${NAME_SERVER}\n`);
    const config = join(this.#directory, 'daemon.json');
    writeFileSync(
      config,
      JSON.stringify({
        'registry-mirrors': [this.#mirror],
        // A guest of this machine: it touches neither its firewall nor its links.
        iptables: false,
        ip6tables: false,
        bridge: 'none',
        'storage-driver': 'vfs',
        'data-root': join(this.#directory, 'data'),
        'exec-root': join(this.#directory, 'exec'),
        pidfile: join(this.#directory, 'docker.pid'),
        hosts: [this.#socket],
      }),
    );
    const daemon = new Daemon({
      label: `dockerd of ${this.#netns}`,
      command: inNetns(this.#netns, [
        ...['unshare', '--mount', '--', 'sh', '-c', WITH_ETC, etc],
        ...[join(this.#binaries, 'dockerd'), '--config-file', config],
      ]),
      logFile: join(this.#directory, 'dockerd.log'),
    });
    this.#daemon = daemon;
    await waitUntil(
      async () => {
        if (!daemon.running) throw new Error(`${daemon.label} ended at once: ${daemon.tail()}`);
        return (await this.cli('version')).code === 0;
      },
      {
        timeoutMs: START_MS,
        everyMs: 200,
        describe: () => `${daemon.label} does not answer: ${daemon.tail()}`,
      },
    );
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#daemon = undefined;
  }

  /** Forgets every image. */
  async reset(): Promise<void> {
    await this.stop();
    await removeTree(join(this.#directory, 'data'));
    await this.start();
  }

  /** One command of the `docker` client. */
  cli(...args: string[]): Promise<RunResult> {
    return run([join(this.#binaries, 'docker'), '--host', this.#socket, ...args], { timeoutMs: 240_000 });
  }

  get #socket(): string {
    return `unix://${join(this.#directory, 'docker.sock')}`;
  }
}
