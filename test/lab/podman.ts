import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inNetns, type RunResult, run } from './process.ts';
import { removeTree } from './workspace.ts';

/** A mirror as README's registries.conf has it. */
export interface PodmanMirror {
  /** Of images: `registry.example:5000` */
  readonly registry: string;
  /** `127.0.0.1:6180/registry.example_5000` */
  readonly location: string;
}

/** A podman of one host: storage, state and registries.conf of its own. */
export class Podman {
  readonly #netns: string;
  readonly #directory: string;
  readonly #mirrors: readonly PodmanMirror[];

  constructor(init: { netns: string; directory: string; mirrors: readonly PodmanMirror[] }) {
    this.#netns = init.netns;
    this.#directory = init.directory;
    this.#mirrors = init.mirrors;
  }

  /** Its version; undefined where there is none. */
  static async version(): Promise<string | undefined> {
    try {
      const { code, stdout } = await run(['podman', '--version']);
      return code === 0 ? stdout.trim().replace(/^podman version /, '') : undefined;
    } catch {
      return undefined;
    }
  }

  /** Writes its files. Nothing runs between commands. */
  prepare(): void {
    mkdirSync(this.#directory, { recursive: true });
    const registries = this.#mirrors.map(
      ({ registry, location }) =>
        `[[registry]]\nlocation = "${registry}"\n[[registry.mirror]]\nlocation = "${location}"\ninsecure = true\n`,
    );
    writeFileSync(this.#path('registries.conf'), registries.join('\n'));
    writeFileSync(
      this.#path('containers.conf'),
      `[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
# The other kind is one file of the whole machine.
lock_type = "file"
tmp_dir = "${this.#path('tmp')}"
static_dir = "${this.#path('static')}"
volume_path = "${this.#path('volumes')}"
`,
    );
    writeFileSync(
      this.#path('storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${this.#path('root')}"\nrunroot = "${this.#path('run')}"\n`,
    );
  }

  /** Forgets every image. */
  async reset(): Promise<void> {
    for (const name of ['root', 'run', 'static', 'tmp']) await removeTree(this.#path(name));
  }

  /** An auth.json with one account. @returns its path, for `--authfile` */
  account(key: string, userAndPassword: string): string {
    const file = this.#path('auth.json');
    const auth = Buffer.from(userAndPassword).toString('base64');
    writeFileSync(file, JSON.stringify({ auths: { [key]: { auth } } }), { mode: 0o600 });
    return file;
  }

  /** One command of podman. */
  cli(...args: string[]): Promise<RunResult> {
    return run(inNetns(this.#netns, ['podman', ...args]), {
      timeoutMs: 240_000,
      env: {
        CONTAINERS_REGISTRIES_CONF: this.#path('registries.conf'),
        CONTAINERS_CONF: this.#path('containers.conf'),
        CONTAINERS_STORAGE_CONF: this.#path('storage.conf'),
        REGISTRY_AUTH_FILE: '',
      },
    });
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}
