import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import {
  type EventSink,
  MAX_EVENT_DETAIL,
  MAX_EVENT_KEY,
  type NodeEvent,
  type ToldEvent,
} from '../../shared/wire/events.ts';
import { MAX_EVENTS_TOLD } from '../../shared/wire/messages/report.ts';
import type { OutboxTable } from '../index/types.ts';
import { ACKNOWLEDGE, COMPLAIN_MS, EVENT_BYTES, EVENT_QUIET_MS } from './constants.ts';

export interface EventOutboxComponents {
  readonly table: OutboxTable;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface EventState {
  /** Kept until the hub has acknowledged them. */
  readonly waiting: number;
  /** Of these and of earlier ones, those that there was no room for. */
  readonly lost: number;
  /** Noted since the agent has started, by kind. */
  readonly noted: Readonly<Record<string, number>>;
}

/**
 * What happened on this node, kept until the hub says that it has it: not the broker, which may lose it. One batch is
 * under way at a time; told again, it is the same one.
 */
export class EventOutbox implements EventSink {
  readonly #c: EventOutboxComponents;
  readonly #boot: string;
  readonly #noted = new Map<string, number>();
  #onNews: () => void = () => undefined;
  #open = false;
  #awaited = false;
  /** There was more than one batch takes. */
  #behind = false;
  /** Monotonic ms: until then events wait for company. */
  #quietUntil = Number.NEGATIVE_INFINITY;
  #patienceMs: number = ACKNOWLEDGE.baseMs;
  #cancelTimer: (() => void) | undefined;
  #lost = 0;
  #complainedAt = Number.NEGATIVE_INFINITY;

  constructor(components: EventOutboxComponents, init: { readonly boot: string }) {
    this.#c = components;
    this.#boot = init.boot;
  }

  /** Called whenever {@link next} may have something. */
  set onNews(listener: () => void) {
    this.#onNews = listener;
  }

  note({ kind, key = '', detail = '', count = 1 }: NodeEvent): void {
    this.#noted.set(kind, (this.#noted.get(kind) ?? 0) + count);
    try {
      this.#c.table.add({
        boot: this.#boot,
        kind,
        key: cut(key, MAX_EVENT_KEY),
        detail: cut(detail, MAX_EVENT_DETAIL),
        count,
        at: this.#c.clock.now(),
      });
    } catch (error) {
      this.#lost += count;
      this.#complain(error);
      return;
    }
    this.#onNews();
  }

  get state(): EventState {
    const { rows, lost } = this.#usage();
    return { waiting: rows, lost: lost + this.#lost, noted: Object.fromEntries(this.#noted) };
  }

  /** A new connection, or a hub that may know nothing: what was told and not acknowledged is told again. */
  resume(): void {
    this.#open = true;
    this.#quietUntil = Number.NEGATIVE_INFINITY;
    this.#settle();
    this.#patienceMs = ACKNOWLEDGE.baseMs;
  }

  close(): void {
    this.#open = false;
    this.#settle();
  }

  /** Whether there is something worth a report of its own; what goes out anyway may take along what {@link next} has. */
  get hasNews(): boolean {
    if (!this.#open || this.#awaited || this.#c.clock.mono() < this.#quietUntil) return false;
    return this.#usage().rows > 0;
  }

  /** The next batch, and none before this one is acknowledged. */
  next(): readonly ToldEvent[] {
    if (!this.#open || this.#awaited) return [];
    const told = this.#read();
    if (told.length === 0) return [];
    this.#settle();
    this.#awaited = true;
    this.#behind = this.#usage().rows > told.length;
    this.#cancelTimer = this.#c.clock.after(this.#patienceMs, () => {
      this.#patienceMs = Math.min(this.#patienceMs * 2, ACKNOWLEDGE.maxMs);
      this.#settle();
      this.#onNews();
    });
    return told;
  }

  /** The hub has what it was told of these boots, up to these numbers. */
  acknowledged(through: readonly { readonly boot: string; readonly seq: number }[]): void {
    try {
      for (const { boot, seq } of through) this.#c.table.acknowledge(boot, seq);
    } catch (error) {
      this.#complain(error);
      return;
    }
    this.#patienceMs = ACKNOWLEDGE.baseMs;
    this.#settle();
    if (!this.#behind) {
      this.#quietUntil = this.#c.clock.mono() + EVENT_QUIET_MS;
      this.#cancelTimer = this.#c.clock.after(EVENT_QUIET_MS, () => this.#onNews());
    }
    this.#onNews();
  }

  #settle(): void {
    this.#awaited = false;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #read(): readonly ToldEvent[] {
    try {
      return this.#c.table.tell(MAX_EVENTS_TOLD, EVENT_BYTES).map(({ key, detail, ...event }) => ({
        ...event,
        ...(key === '' ? {} : { key }),
        ...(detail === '' ? {} : { detail }),
      }));
    } catch (error) {
      this.#complain(error);
      return [];
    }
  }

  #usage(): { readonly rows: number; readonly lost: number } {
    try {
      return this.#c.table.usage();
    } catch (error) {
      this.#complain(error);
      return { rows: 0, lost: 0 };
    }
  }

  #complain(error: unknown): void {
    const now = this.#c.clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    this.#c.log.error({ reason: describeError(error), lost: this.#lost }, 'an event could not be kept');
  }
}

/** Not through the middle of a character. */
function cut(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}
