import * as z from 'zod';
import { type Clock, every } from '../../shared/clock.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { nodeName, poolName } from '../../shared/wire/messages/fields.ts';
import { JsonFile } from '../data/json-file.ts';
import type { ObservedNodes, RememberedNode } from './observed-nodes.ts';

const SAVE_AFTER_MS = 2_000;
const FORGET_EVERY_MS = 3600_000;
/** A node without a document that has been away this long is no longer in rosters. */
const FORGET_AFTER_MS = 30 * 86_400_000;

const book = z.array(
  z.object({
    node: nodeName,
    pool: poolName,
    address: z.string(),
    version: z.string(),
    platform: z.string(),
    lastSeen: z.number(),
  }),
);

/**
 * Where nodes were last seen, on disk: a hub that starts again must not publish rosters without addresses over the good
 * ones that agents hold.
 */
export class NodeBook implements Startable {
  readonly name = 'node book';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #observed: ObservedNodes;
  readonly #file: JsonFile<RememberedNode[]>;
  readonly #documented: () => ReadonlySet<NodeName>;
  #cancelSave: (() => void) | undefined;
  #cancelForget: (() => void) | undefined;
  #changed = false;

  constructor(
    components: { readonly clock: Clock; readonly log: Logger; readonly observed: ObservedNodes },
    init: { readonly file: string; readonly documented: () => ReadonlySet<NodeName> },
  ) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#observed = components.observed;
    this.#file = new JsonFile(init.file, book);
    this.#documented = init.documented;
  }

  /** @throws TidepoolError STORE_CORRUPT */
  async start(): Promise<void> {
    this.#observed.restore((await this.#file.read()) ?? []);
    this.#cancelForget = every(this.#clock, FORGET_EVERY_MS, () => {
      const documented = this.#documented();
      if (this.#observed.forget(FORGET_AFTER_MS, (node) => documented.has(node)) > 0) this.mark();
    });
  }

  async stop(): Promise<void> {
    this.#cancelForget?.();
    this.#cancelSave?.();
    this.#cancelSave = undefined;
    if (this.#changed) await this.#save();
  }

  /** Something worth remembering has changed. */
  mark(): void {
    this.#changed = true;
    this.#cancelSave ??= this.#clock.after(SAVE_AFTER_MS, () => {
      this.#cancelSave = undefined;
      void this.#save();
    });
  }

  async #save(): Promise<void> {
    this.#changed = false;
    try {
      await this.#file.write([...this.#observed.remember()]);
    } catch (error) {
      this.#changed = true;
      this.#log.error({ file: this.#file.path, err: error }, 'could not save what is known of nodes');
    }
  }
}
