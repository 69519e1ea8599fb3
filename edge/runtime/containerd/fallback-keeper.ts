import { type Clock, every } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import { HostsFiles } from './hosts-files.ts';

/** `containerd configure` and `restore` may run at any time beside the agent. */
const LOOK_MS = 60_000;
const SETTING = 'runtime.originFallback';

interface FallbackKeeperComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** {@link FallbackKeeper.problems} are others than before. Not called from within `set`. */
  readonly onChange: () => void;
}

interface FallbackKeeperInit {
  readonly certsDir: string;
  /** Where the host's files are mounted; `/` on the host itself. */
  readonly hostRoot: string;
}

/**
 * Has containerd's hosts.toml files, those that `containerd configure` wrote, go past the agent or end at it as the pool's
 * tuning says. Until it is started it only listens: an agent hears its own settings first, and files are not to be
 * written twice at each start.
 */
export class FallbackKeeper implements Startable {
  readonly name = 'fallback-keeper';
  readonly #c: FallbackKeeperComponents;
  readonly #init: FallbackKeeperInit;
  readonly #files: HostsFiles;
  #wanted: boolean | undefined;
  #problems: readonly string[] = [];
  #cancel: (() => void) | undefined;

  constructor(components: FallbackKeeperComponents, init: FallbackKeeperInit) {
    this.#c = components;
    this.#init = init;
    this.#files = new HostsFiles(init.certsDir, init.hostRoot);
  }

  /** What is not as the tuning says, for people. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** @param fallback undefined: as `containerd configure` was asked */
  set(fallback: boolean | undefined): void {
    this.#wanted = fallback;
    if (this.#cancel !== undefined) this.#keep();
  }

  async start(): Promise<void> {
    this.#cancel = every(this.#c.clock, LOOK_MS, () => {
      if (this.#wanted !== undefined || this.#problems.length > 0) this.#look();
    });
    this.#look();
  }

  /** The files stay as they are: containerd goes on reading them. */
  async stop(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #look(): void {
    if (this.#keep()) this.#c.onChange();
  }

  /** True when the problems are others than before; they are logged then, and not again. */
  #keep(): boolean {
    const problems = this.#override();
    const changed = problems.join('\n') !== this.#problems.join('\n');
    this.#problems = problems;
    if (changed && problems.length > 0) {
      this.#c.log.warn({ problems }, `${SETTING} is not in force on this node`);
    }
    return changed;
  }

  #override(): readonly string[] {
    const wanted = this.#wanted;
    const { certsDir } = this.#init;
    try {
      const changes = this.#files.override(wanted);
      if (changes === undefined) {
        return wanted === undefined
          ? []
          : [
              `${SETTING}: nothing in ${certsDir} is ours: run tidepool-agent containerd configure, and mount it where the agent runs in a container`,
            ];
      }
      const written = changes.filter(({ change }) => change === 'written').map(({ path }) => path);
      if (written.length > 0) {
        this.#c.log.info({ [SETTING]: wanted ?? 'as configured', written }, 'hosts.toml files written');
      }
      // Who left the decision to the files has nothing to hear of one that was changed by hand.
      if (wanted === undefined) return [];
      return changes.flatMap(({ path, note }) =>
        note === undefined ? [] : [`${SETTING}: ${path} stays as it is: ${note}`],
      );
    } catch (error) {
      return [`${SETTING}: ${describeError(error)}; the agent has to be able to write ${certsDir}`];
    }
  }
}
