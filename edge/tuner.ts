import { describeError } from '../shared/errors.ts';
import type { NodeName } from '../shared/ids.ts';
import type { Logger } from '../shared/log.ts';
import type { TuningMessage, TuningSettings } from '../shared/wire/messages.ts';
import { mergeTuning, resolveTuning, type Tuning } from '../shared/wire/tuning.ts';

interface TunerComponents {
  readonly log: Logger;
  /** Hands the values to the parts; takes effect while they work. */
  readonly apply: (tuning: Tuning, gateways: ReadonlySet<string>) => void;
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

  /** Applies the node's own settings at once. @throws TidepoolError INVALID_ARGUMENT when they cannot be */
  constructor(components: TunerComponents, init: TunerInit) {
    this.#c = components;
    this.#init = init;
    components.apply(resolveTuning(init.base), new Set());
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
      const tuning = resolveTuning(mergeTuning(base, message.settings, message.nodes[node] ?? {}));
      this.#c.apply(tuning, new Set(message.gateways));
    } catch (error) {
      this.#c.log.error(
        { epoch, version, hash, why: describeError(error) },
        'tuning cannot be applied; the last good one stays',
      );
      return false;
    }
    if (this.#hash !== hash) this.#c.log.info({ epoch, version, hash }, 'tuning applied');
    this.#hash = hash;
    return true;
  }
}
