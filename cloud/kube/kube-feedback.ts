import type { Clock } from '../../shared/clock.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { Feedback, Leadership, PrefetchStatus, Problem, Subject } from '../desired/types.ts';
import { EVENT_BURST, EVENT_REFILL_MS, EVENT_REPEAT_MS, MAX_SAID, WRITE_INTERVAL_MS } from './constants.ts';
import { eventObject, eventsPath } from './events.ts';
import type { KubeApi } from './kube-client.ts';
import { Outbox } from './outbox.ts';
import { type About, hashOf, PREFETCH_PATH } from './resources.ts';

export interface KubeFeedbackComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly client: KubeApi;
  readonly leadership: Leadership;
  /** What is known of the object, undefined where the cluster has none. */
  readonly about: (subject: Subject) => About | undefined;
}

export interface KubeFeedbackInit {
  /** Of the tuning ConfigMap. */
  readonly namespace: string;
  /** Name of this hub's process, as it stands in Events. */
  readonly instance: string;
  readonly writeIntervalMs?: number;
}

interface Sent {
  readonly uid: string;
  readonly hash: string;
  readonly fields: readonly string[];
}

/** Status, Events and deletions on Kubernetes; all of it bounded, and only while this hub leads. */
export class KubeFeedback implements Feedback, Startable {
  readonly name = 'kubernetes feedback';
  readonly #c: KubeFeedbackComponents;
  readonly #init: KubeFeedbackInit;
  readonly #writes: Outbox;
  readonly #events: Outbox;
  /** Statuses that were written and may not have come back by the watch yet. */
  readonly #sent = new Map<string, Sent>();
  /** When each notice was last said. */
  readonly #said = new Map<string, number>();
  #tokens = EVENT_BURST;
  #refilledAt: number;
  #unsaid = 0;
  #number = 0;

  constructor(components: KubeFeedbackComponents, init: KubeFeedbackInit) {
    this.#c = components;
    this.#init = init;
    this.#refilledAt = components.clock.mono();
    const intervalMs = init.writeIntervalMs ?? WRITE_INTERVAL_MS;
    this.#writes = new Outbox(components, { what: 'status of prefetches', intervalMs });
    this.#events = new Outbox(components, { what: 'events', intervalMs, maxWaiting: 2 * EVENT_BURST });
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await Promise.all([this.#writes.stop(), this.#events.stop()]);
  }

  problems(): readonly Problem[] {
    return [this.#writes.problem, this.#events.problem].flatMap((each) => each ?? []);
  }

  /** Notices that found no room. */
  get unsaid(): number {
    return this.#unsaid + this.#events.dropped;
  }

  prefetchStatus(id: string, status: PrefetchStatus): void {
    // Without an object it is a job of the API, which has its own place to be looked at.
    if (this.#c.about({ kind: 'ImagePrefetch', name: id }) === undefined) return;
    const hash = hashOf(status);
    if (this.#known(id)?.hash === hash) {
      // What waits, if anything, is older.
      this.#writes.cancel(`status ${id}`);
      return;
    }
    this.#writes.put(`status ${id}`, async (signal) => {
      const known = this.#known(id);
      if (known === undefined || known.hash === hash) return;
      // A merge leaves out what is not named: fields that are over have to be named as null.
      const over = Object.fromEntries(known.fields.map((field) => [field, null]));
      const body = { metadata: { uid: known.uid }, status: { ...over, ...status } };
      const path = `${PREFETCH_PATH}/${encodeURIComponent(id)}/status`;
      await this.#c.client.json('PATCH', { path, body, contentType: 'application/merge-patch+json', signal });
      this.#sent.set(id, { uid: known.uid, hash, fields: Object.keys(status) });
    });
  }

  removePrefetch(id: string): void {
    const uid = this.#c.about({ kind: 'ImagePrefetch', name: id })?.uid;
    if (uid === undefined) return;
    this.#writes.cancel(`status ${id}`);
    this.#writes.put(`remove ${id}`, async (signal) => {
      const path = `${PREFETCH_PATH}/${encodeURIComponent(id)}`;
      // Only this very object: one that was made anew under its name is another job.
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } };
      await this.#c.client.json('DELETE', { path, body, signal });
    });
  }

  notice(subject: Subject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { clock, leadership } = this.#c;
    if (!leadership.leads) return;
    const key = [subject.kind, subject.name, type, reason, message].join(' ');
    const saidAt = this.#said.get(key);
    const now = clock.mono();
    if (saidAt !== undefined && now - saidAt < EVENT_REPEAT_MS) return;
    if (!this.#mayTell(now)) {
      this.#unsaid++;
      return;
    }
    this.#said.delete(key);
    this.#said.set(key, now);
    if (this.#said.size > MAX_SAID) this.#said.delete(this.#said.keys().next().value ?? '');
    const { namespace, instance } = this.#init;
    const uid = this.#c.about(subject)?.uid;
    const name = `${this.#number++}-${clock.now()}`;
    const body = eventObject({
      subject,
      type,
      reason,
      message,
      namespace,
      instance,
      uid,
      name,
      at: clock.now(),
    });
    const path = eventsPath(subject, namespace);
    this.#events.put(key, async (signal) => {
      await this.#c.client.json('POST', { path, body, signal });
    });
  }

  /** The status that the object has: ours if it was the last one written to it, else as the watch shows it. */
  #known(id: string): Sent | undefined {
    const about = this.#c.about({ kind: 'ImagePrefetch', name: id });
    if (about === undefined) {
      this.#sent.delete(id);
      return undefined;
    }
    const sent = this.#sent.get(id);
    if (sent?.uid === about.uid) return sent;
    this.#sent.delete(id);
    return { uid: about.uid, hash: about.status?.hash ?? '', fields: about.status?.fields ?? [] };
  }

  #mayTell(now: number): boolean {
    const earned = Math.floor((now - this.#refilledAt) / EVENT_REFILL_MS);
    if (earned > 0) {
      this.#tokens = Math.min(EVENT_BURST, this.#tokens + earned);
      this.#refilledAt += earned * EVENT_REFILL_MS;
    }
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }
}
