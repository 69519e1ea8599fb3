import { describeError } from '../shared/errors.ts';
import type { NodeName } from '../shared/ids.ts';
import type { Logger } from '../shared/log.ts';
import { type TuningMessage, type TuningSettings, unknownSettings } from '../shared/wire/messages/tuning.ts';
import { mergeTuning, resolveTuning, type Tuning } from '../shared/wire/tuning.ts';

/** As many go into a report. */
const MAX_PROBLEMS = 10;
const MAX_PROBLEM_CHARS = 300;

interface TunerComponents {
  readonly log: Logger;
  /** Hands the values to the parts; takes effect while they work. The answer says what this node may not do, or cannot. */
  readonly apply: (
    tuning: Tuning,
    gateways: ReadonlySet<string>,
    /** Pools that name this one as their upstream. */
    downstreams: ReadonlySet<string>,
  ) => readonly string[];
  /** What parts that work on their own time could not do until now, with the same meaning. */
  readonly standing?: () => readonly string[];
}

interface TunerInit {
  readonly node: NodeName;
  /** Of this node's own settings file: beneath what the hub says. */
  readonly base: TuningSettings;
}

/** Tuning in force on this node: its own settings, over them the pool's, over them what the hub says of this node. */
export class Tuner {
  readonly #c: TunerComponents;
  readonly #init: TunerInit;
  #hash: string | undefined;
  #problems: readonly string[] = [];
  #tuning: Tuning;

  /** Applies the node's own settings at once. @throws TidepoolError INVALID_ARGUMENT when they cannot be */
  constructor(components: TunerComponents, init: TunerInit) {
    this.#c = components;
    this.#init = init;
    this.#tuning = resolveTuning(init.base);
    this.#tell(components.apply(this.#tuning, new Set(), new Set()));
  }

  /** In force now. */
  get tuning(): Tuning {
    return this.#tuning;
  }

  /** What the last message asked for and this node does not do, for people; at most {@link MAX_PROBLEMS}. */
  get problems(): readonly string[] {
    const standing = this.#c.standing?.() ?? [];
    return [...this.#problems, ...standing.map(cut)].slice(0, MAX_PROBLEMS);
  }

  /** Of the last message that was applied; undefined before any was. */
  get hash(): string | undefined {
    return this.#hash;
  }

  /** A message that cannot be applied changes nothing: the last good one stays in force. True when it is in force now. */
  set(message: TuningMessage): boolean {
    const { node, base } = this.#init;
    const { hash, version, epoch } = message;
    try {
      const settings = mergeTuning(message.settings, message.nodes[node] ?? {});
      const tuning = resolveTuning(mergeTuning(base, settings));
      const refused = this.#c.apply(tuning, new Set(message.gateways), new Set(message.downstreams));
      this.#tuning = tuning;
      const unknown = unknownSettings(settings);
      this.#tell([
        ...refused,
        ...unknown.map((field) => `${field}: this agent is too old to know it; the rest is in force`),
      ]);
    } catch (error) {
      const why = describeError(error);
      this.#c.log.error({ epoch, version, hash, why }, 'tuning cannot be applied; the last good one stays');
      this.#problems = [cut(`cannot be applied: ${why}; the last good tuning stays in force`)];
      return false;
    }
    if (this.#hash !== hash) this.#c.log.info({ epoch, version, hash }, 'tuning applied');
    this.#hash = hash;
    return true;
  }

  #tell(problems: readonly string[]): void {
    this.#problems = problems.slice(0, MAX_PROBLEMS).map(cut);
    for (const problem of this.#problems)
      this.#c.log.warn({ problem }, 'a setting is not in force on this node');
  }
}

function cut(text: string): string {
  return text.slice(0, MAX_PROBLEM_CHARS);
}
