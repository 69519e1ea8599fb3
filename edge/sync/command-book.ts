import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { CommandMessage } from '../../shared/wire/messages/command.ts';
import type { DocumentTable } from '../index/types.ts';
import { MAX_COMMANDS } from './constants.ts';
import { HubTime } from './hub-time.ts';

const NAME = 'sync/commands';
const kept = z.object({ epoch: z.number(), at: z.number().optional(), ids: z.array(z.string()) });

/** What is to be done with a command, and why not. */
export type Verdict = 'follow' | 'known' | 'expired';

/**
 * Which commands of the hub were followed: each one is followed once, however often and from wherever it comes, also over
 * restarts, and none after its time. The time is the hub's, as it was last heard: a node's own clock may be years off.
 */
export class CommandBook {
  readonly #documents: DocumentTable;
  readonly #log: Logger;
  readonly #time: HubTime;
  /** The oldest first. */
  readonly #ids = new Set<string>();

  constructor(components: {
    readonly documents: DocumentTable;
    readonly clock: Pick<Clock, 'mono'>;
    readonly log: Logger;
  }) {
    this.#documents = components.documents;
    this.#log = components.log;
    const { ids, ...time } = this.#restore();
    this.#time = new HubTime(components.clock, time);
    for (const id of ids) this.#ids.add(id);
  }

  /** The hub has said what time it is, or was when it said so. */
  heard(epoch: number, at: number, live: boolean): void {
    this.#time.heard(epoch, at, live);
  }

  /** By the hub's clock, ms; undefined before it was heard of. */
  get hubTime(): number | undefined {
    return this.#time.now();
  }

  /** The same, undefined before the hub has said it to this start of the agent: good to tell how long that was off. */
  get exactHubTime(): number | undefined {
    return this.#time.exact();
  }

  /** Remembers a command that is to be followed before it is: one that breaks off is not begun again by a copy of it. */
  judge({ id, epoch, at, expiresAt, command }: CommandMessage): Verdict {
    // Acknowledgements are many, true for ever, and change nothing the second time.
    if (command.kind === 'events-kept') {
      // Each start has something to tell, so this is how it soon knows what time it is.
      if (at !== undefined) this.#time.heard(epoch, at, true);
      return 'follow';
    }
    if (this.#ids.has(id)) return 'known';
    const now = this.#time.now(epoch);
    if (now !== undefined && expiresAt < now) return 'expired';
    if (at !== undefined) this.#time.heard(epoch, at, true);
    this.#ids.add(id);
    for (const oldest of this.#ids) {
      if (this.#ids.size <= MAX_COMMANDS) break;
      this.#ids.delete(oldest);
    }
    // To introduce itself twice does no harm, and hubs ask for it often: not worth a write.
    if (command.kind !== 'resync') this.#keep();
    return 'follow';
  }

  #keep(): void {
    try {
      this.#documents.put(NAME, { ...this.#time.known, ids: [...this.#ids] });
    } catch (error) {
      this.#log.error({ err: error }, 'the commands that were followed could not be kept');
    }
  }

  #restore(): z.infer<typeof kept> {
    const value = this.#documents.get(NAME);
    if (value === undefined) return { epoch: 0, ids: [] };
    const result = kept.safeParse(value);
    if (result.success) return result.data;
    this.#log.warn({ name: NAME, reason: describeError(result.error) }, 'a kept document cannot be read');
    return { epoch: 0, ids: [] };
  }
}
