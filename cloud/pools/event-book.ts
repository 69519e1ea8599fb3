import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { type ToldEvent, toldEvent } from '../../shared/wire/events.ts';
import { nodeName } from '../../shared/wire/messages/fields.ts';
import { LineLog } from '../data/line-log.ts';
import { type KeptEvent, NodeEvents } from './node-events.ts';

const MAX_FILE_BYTES = 16 * 1024 * 1024;
/** Lines that wait for the disk; more are not acknowledged, and told again. */
const MAX_WAITING = 20_000;

const line = toldEvent.extend({ node: nodeName, heardAt: z.number() });

/** Up to which number the hub has the events of each boot. */
export type Kept = readonly { readonly boot: string; readonly seq: number }[];

/**
 * Events of nodes, on disk before a node is told that it need not keep them any longer. The file is written anew when it
 * has grown, with what is kept of it in memory.
 */
export class EventBook implements Startable {
  readonly name = 'node events';
  readonly events = new NodeEvents();
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #file: LineLog;
  readonly #maxBytes: number;
  #waiting: string[] = [];
  /** The file has to be written anew: it may be torn, or hold what was forgotten. */
  #dirty = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    components: { readonly clock: Clock; readonly log: Logger },
    init: { readonly file: string; readonly maxFileBytes?: number },
  ) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#file = new LineLog(init.file);
    this.#maxBytes = init.maxFileBytes ?? MAX_FILE_BYTES;
  }

  /** What cannot be read is left out: events are worth less than a hub that starts. */
  async start(): Promise<void> {
    let unreadable = 0;
    for (const text of await this.#lines()) {
      const event = parse(text);
      if (event === undefined) unreadable++;
      else this.events.restore(event);
    }
    if (unreadable === 0) return;
    this.#dirty = true;
    this.#log.warn({ file: this.#file.path, lines: unreadable }, 'lines of the event file cannot be read');
  }

  async stop(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file.close();
  }

  /**
   * Keeps what is news. The answer, once it is on the disk, is what the node need not tell again.
   * @throws TidepoolError OVERLOADED, STORE_FULL when it cannot be written
   */
  async take(node: NodeName, told: readonly ToldEvent[]): Promise<Kept> {
    if (this.#waiting.length + told.length > MAX_WAITING) {
      throw new TidepoolError('OVERLOADED', `${this.#waiting.length} events wait for the disk`);
    }
    const news = this.events.add(node, told, this.#clock.now());
    this.#waiting.push(...news.map((event) => JSON.stringify(event)));
    // Also where nothing is new: what was told before may still be on its way to the disk.
    this.#writing = this.#writing.catch(() => undefined).then(() => this.#write());
    await this.#writing;
    const last = new Map<string, number>();
    for (const { boot, seq } of told) last.set(boot, Math.max(seq, last.get(boot) ?? 0));
    return [...last].map(([boot, seq]) => ({ boot, seq }));
  }

  forget(node: NodeName): void {
    this.events.forget(node);
    this.#dirty = true;
  }

  async #write(): Promise<void> {
    const lines = this.#waiting;
    const isAnew = this.#dirty || this.#file.bytes > this.#maxBytes;
    if (lines.length === 0 && !isAnew) return;
    this.#waiting = [];
    try {
      if (isAnew) await this.#file.replace(this.events.all().map((event) => JSON.stringify(event)));
      else await this.#file.append(lines);
      this.#dirty = false;
    } catch (error) {
      // All of it is in memory: the next write puts it down whole.
      this.#dirty = true;
      throw new TidepoolError('STORE_FULL', `cannot write ${this.#file.path}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }

  async #lines(): Promise<string[]> {
    try {
      return await this.#file.read();
    } catch (error) {
      this.#log.error({ file: this.#file.path, err: error }, 'the events of nodes cannot be read');
      this.#dirty = true;
      return [];
    }
  }
}

function parse(text: string): KeptEvent | undefined {
  try {
    return line.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
