import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { encode } from '../../shared/wire/messages/codec.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/wire/topics.ts';
import type { Problem } from '../desired/types.ts';

/** Messages under way to the broker at a time. */
const WINDOW = 64;
const RETRY_MS = 1_000;

/** Puts retained messages to the broker; rejects without a connection. */
export interface RetainedSink {
  publish(topic: string, payload: Buffer, options: { readonly retain: boolean }): Promise<void>;
}

/** The bodies of topics that change together, as the shards of a roster do: they share one version. */
export type Group = ReadonlyMap<string, object>;

interface Entry {
  readonly text: string;
  readonly version: number;
  readonly topics: ReadonlyMap<string, Buffer>;
}

const NOTHING = Buffer.alloc(0);

/**
 * Retained state. What did not change is not published again, except after a reconnect; what vanished is cleared. Every
 * body gets the epoch, and a version that grows with its group unless it has one.
 */
export class Publisher {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #sink: RetainedSink;
  #epoch: number;
  /** Versions that were given to groups which are no more: one that comes again goes on from here. */
  #floor = 0;
  readonly #groups = new Map<string, Entry>();
  /** Topics to publish, with what; in order of their first change. */
  readonly #dirty = new Map<string, Buffer>();
  /** What each topic shall hold in the end: a failed message that is no longer this one is not repeated. */
  readonly #latest = new Map<string, Buffer>();
  readonly #problems = new Map<string, Problem>();
  #inFlight = 0;
  #open = false;
  #published = 0;
  #cancelRetry: (() => void) | undefined;

  constructor(
    components: {
      readonly clock: Clock;
      readonly log: Logger;
      readonly sink: RetainedSink;
    },
    init: { readonly epoch: number },
  ) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#sink = components.sink;
    this.#epoch = init.epoch;
  }

  /** Messages published since the start. */
  get published(): number {
    return this.#published;
  }

  /** Messages not yet at the broker. */
  get pending(): number {
    return this.#dirty.size + this.#inFlight;
  }

  problems(): readonly Problem[] {
    return [...this.#problems.values()];
  }

  /** What the topics under a prefix shall hold, as it was said last. */
  messages(prefix: string): readonly (readonly [topic: string, payload: Buffer])[] {
    return [...this.#groups.values()].flatMap(({ topics }) =>
      [...topics].filter(([topic]) => topic.startsWith(prefix)),
    );
  }

  groups(): IterableIterator<string> {
    return this.#groups.keys();
  }

  /** Sets a group's whole content. A message that is too large is a problem, and the group stays as it was. */
  set(group: string, bodies: Group): void {
    const before = this.#groups.get(group);
    const text = JSON.stringify([...bodies]);
    if (before?.text === text) return;
    const version = (before?.version ?? this.#floor) + 1;
    const topics = new Map<string, Buffer>();
    for (const [topic, body] of bodies) {
      // A body may have a version of its own, which counts something else than publications.
      const payload = encode({ version, ...body, epoch: this.#epoch });
      if (payload.length > MAX_MESSAGE_BYTES) {
        const message = `${payload.length} bytes; a message has at most ${MAX_MESSAGE_BYTES}, what was said before stays in force`;
        if (!this.#problems.has(group))
          this.#log.error({ topic, bytes: payload.length }, 'message too large');
        this.#problems.set(group, { source: group, message });
        return;
      }
      topics.set(topic, payload);
    }
    this.#problems.delete(group);
    this.#groups.set(group, { text, version, topics });
    for (const topic of before?.topics.keys() ?? []) if (!topics.has(topic)) this.#mark(topic, NOTHING);
    for (const [topic, payload] of topics) this.#mark(topic, payload);
    this.#pump();
  }

  /** Clears the topics of a group that is no more. */
  remove(group: string): void {
    const before = this.#groups.get(group);
    this.#problems.delete(group);
    if (before === undefined) return;
    this.#groups.delete(group);
    this.#floor = Math.max(this.#floor, before.version);
    for (const topic of before.topics.keys()) this.#mark(topic, NOTHING);
    this.#pump();
  }

  /** A term with another epoch: everything is said anew under it, once there is a connection. */
  begin(epoch: number): void {
    if (epoch === this.#epoch) return;
    this.#epoch = epoch;
    const before = [...this.#groups];
    this.#groups.clear();
    this.#floor = 0;
    this.#dirty.clear();
    for (const [group, { text }] of before) this.set(group, new Map<string, object>(JSON.parse(text)));
  }

  /** A new connection: the broker may have forgotten everything. Nothing is published before the first one. */
  resume(): void {
    this.#open = true;
    for (const { topics } of this.#groups.values()) {
      for (const [topic, payload] of topics) this.#mark(topic, payload);
    }
    this.#pump();
  }

  /** The connection is gone; changes are kept for the next one. */
  pause(): void {
    this.#open = false;
  }

  /** Clears those of `found` that nobody stands for: left by an earlier start. The answer is their number. */
  clearStrays(found: readonly string[]): number {
    const ours = new Set([...this.#groups.values()].flatMap(({ topics }) => [...topics.keys()]));
    const strays = found.filter((topic) => !ours.has(topic));
    for (const topic of strays) this.#mark(topic, NOTHING);
    this.#pump();
    return strays.length;
  }

  stop(): void {
    this.#open = false;
    this.#cancelRetry?.();
    this.#dirty.clear();
  }

  #mark(topic: string, payload: Buffer): void {
    this.#latest.set(topic, payload);
    this.#dirty.set(topic, payload);
  }

  #pump(): void {
    for (const [topic, payload] of this.#dirty) {
      if (!this.#open || this.#inFlight >= WINDOW) return;
      this.#dirty.delete(topic);
      this.#inFlight++;
      this.#sink.publish(topic, payload, { retain: true }).then(
        () => {
          this.#inFlight--;
          this.#published++;
          if (payload === NOTHING && this.#latest.get(topic) === NOTHING) this.#latest.delete(topic);
          this.#pump();
        },
        (error: unknown) => {
          this.#inFlight--;
          if (this.#latest.get(topic) === payload) this.#dirty.set(topic, payload);
          this.#log.debug({ topic, reason: describeError(error) }, 'not published, will be tried again');
          this.#retry();
        },
      );
    }
  }

  #retry(): void {
    if (this.#cancelRetry !== undefined) return;
    this.#cancelRetry = this.#clock.after(RETRY_MS, () => {
      this.#cancelRetry = undefined;
      this.#pump();
    });
  }
}
