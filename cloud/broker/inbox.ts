import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { ToldEvent } from '../../shared/wire/events.ts';
import { birthMessage, deathMessage } from '../../shared/wire/messages/birth.ts';
import { decode } from '../../shared/wire/messages/codec.ts';
import { reportMessage } from '../../shared/wire/messages/report.ts';
import { MAX_MESSAGE_BYTES, parseTopic } from '../../shared/wire/topics.ts';
import type { Kept } from '../pools/event-book.ts';
import type { ObservedNodes, Outcome } from '../pools/observed-nodes.ts';

/** Bad messages are told one by one at most this often; the rest is counted. */
const COMPLAIN_MS = 10_000;

export interface InboxComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly observed: ObservedNodes;
  /** A node is new, or has another pool or address: rosters must follow. */
  readonly onMoved: () => void;
  /** A node came, left, or got further with a job. */
  readonly onProgress?: () => void;
  /** Takes what happened on a node; told what the node need not tell again. */
  readonly events?: {
    take(node: NodeName, events: readonly ToldEvent[]): Promise<Kept>;
    kept(node: NodeName, through: Kept): Promise<void>;
  };
  /** Asks a node for everything it knows. */
  readonly resync: (node: NodeName) => void;
}

/** What nodes say, checked and told to the state of nodes. Nothing that arrives can throw out of here. */
export class Inbox {
  readonly #c: InboxComponents;
  #received = 0;
  #bad = 0;
  #untold = 0;
  #complainedAt = Number.NEGATIVE_INFINITY;

  constructor(components: InboxComponents) {
    this.#c = components;
  }

  get received(): number {
    return this.#received;
  }

  /** Messages that could not be read. */
  get bad(): number {
    return this.#bad;
  }

  take(topic: string, payload: Uint8Array): void {
    const parsed = parseTopic(topic);
    if (parsed?.kind !== 'birth' && parsed?.kind !== 'death' && parsed?.kind !== 'report') return;
    // A retained message that somebody cleared.
    if (payload.length === 0) return;
    this.#received++;
    try {
      this.#dispatch(parsed.kind, parsed.node, payload);
    } catch (error) {
      this.#bad++;
      this.#complain(topic, error);
    }
  }

  #dispatch(kind: 'birth' | 'death' | 'report', node: NodeName, payload: Uint8Array): void {
    if (payload.length > MAX_MESSAGE_BYTES) throw new Error(`${payload.length} bytes`);
    const { observed, onMoved, onProgress, resync } = this.#c;
    const what = `${kind} of ${node}`;
    let outcome: Outcome;
    if (kind === 'birth') {
      const message = decode(birthMessage, payload, what);
      sameNode(node, message.node);
      outcome = observed.birth(message);
      if (outcome.accepted) onProgress?.();
    } else if (kind === 'report') {
      const message = decode(reportMessage, payload, what);
      sameNode(node, message.node);
      outcome = observed.report(message);
      if (outcome.accepted && (message.full || message.prefetches.length > 0)) onProgress?.();
      if (outcome.accepted && message.events !== undefined) this.#keep(node, message.events);
    } else {
      const message = decode(deathMessage, payload, what);
      sameNode(node, message.node);
      const told = observed.death(message);
      this.#c.log.debug({ node, bootId: message.bootId, late: !told }, 'node left');
      if (told) onProgress?.();
      return;
    }
    if (outcome.moved) onMoved();
    if (outcome.resync) resync(node);
  }

  /** Without an acknowledgement the node tells them again. */
  #keep(node: NodeName, told: readonly ToldEvent[]): void {
    const { events, log } = this.#c;
    if (events === undefined || told.length === 0) return;
    events
      .take(node, told)
      .then((kept) => events.kept(node, kept))
      .catch((error: unknown) => {
        log.warn({ node, reason: describeError(error) }, 'events of a node could not be kept');
      });
  }

  #complain(topic: string, error: unknown): void {
    const now = this.#c.clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) {
      this.#untold++;
      return;
    }
    this.#c.log.warn({ topic, reason: describeError(error), andOthers: this.#untold }, 'message refused');
    this.#complainedAt = now;
    this.#untold = 0;
  }
}

function sameNode(topic: NodeName, message: NodeName): void {
  if (topic !== message) throw new Error(`the message is of node ${message}`);
}
