import { type Clock, delay } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { Leadership, Problem } from '../desired/types.ts';
import { LEASE_MS, LEASE_RENEW_MS, LEASE_REQUEST_MS, LEASE_RETRY_MS } from './constants.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { type LeaseRecord, leaseObject, parseLease } from './lease-record.ts';

export interface LeaseLeadershipComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly client: KubeApi;
  /** An epoch over `floor` and over every earlier one of this hub, durable before it is used. */
  readonly nextEpoch: (floor: number) => Promise<number>;
}

export interface LeaseLeadershipInit {
  readonly namespace: string;
  readonly name: string;
  /** Of this process, unlike that of any other start. */
  readonly identity: string;
  /** Where this hub's API answers, for the others to tell. */
  readonly api: () => string;
  readonly leaseMs?: number;
  readonly renewMs?: number;
  readonly retryMs?: number;
  readonly random?: () => number;
}

interface Term {
  readonly epoch: number;
  readonly acquiredAt: number;
  record: LeaseRecord;
  /** Monotonic; the lease counts until then, reckoned from before the request that renewed it. */
  validUntil: number;
}

/**
 * One of several hubs leads, by a Lease that is written compare-and-swap. Whether the lease counts is told by this
 * machine's monotonic clock alone: a process that was stopped, or cut off, has lost it when it comes to.
 */
export class LeaseLeadership implements Leadership, Startable {
  readonly name = 'leadership';
  readonly #c: LeaseLeadershipComponents;
  readonly #init: Required<LeaseLeadershipInit>;
  readonly #path: string;
  readonly #listeners = new Set<() => void>();
  #term: Term | undefined;
  #cancelExpiry: (() => void) | undefined;
  #seen: { readonly record: LeaseRecord; readonly since: number } | undefined;
  #problem: Problem | undefined;
  #controller: AbortController | undefined;
  #run: Promise<void> = Promise.resolve();

  constructor(components: LeaseLeadershipComponents, init: LeaseLeadershipInit) {
    this.#c = components;
    this.#init = {
      leaseMs: LEASE_MS,
      renewMs: LEASE_RENEW_MS,
      retryMs: LEASE_RETRY_MS,
      random: Math.random,
      ...init,
    };
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${init.namespace}/leases`;
  }

  get leads(): boolean {
    return this.#term !== undefined && this.#c.clock.mono() < this.#term.validUntil;
  }

  /** Of the term that runs; grows with each, over all hubs. */
  get epoch(): number | undefined {
    return this.leads ? this.#term?.epoch : undefined;
  }

  /** True once it is known who leads. */
  get decided(): boolean {
    return this.leads || (this.#seen !== undefined && this.#seen.record.holder !== '');
  }

  /** The other hub that leads, as far as is known. */
  get leader(): { readonly identity: string; readonly api: string | undefined } | undefined {
    const record = this.#seen?.record;
    if (this.leads || record === undefined || record.holder === '') return undefined;
    return { identity: record.holder, api: record.api };
  }

  get problem(): Problem | undefined {
    return this.#problem;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async start(): Promise<void> {
    const controller = new AbortController();
    this.#controller = controller;
    this.#run = this.#loop(controller.signal);
  }

  /** Gives the lease up, so that another hub takes over at once. All that leadership allowed has to have ended before. */
  async stop(): Promise<void> {
    this.#controller?.abort(new Error('stopped'));
    this.#controller = undefined;
    await this.#run;
    const term = this.#term;
    const mine = this.leads;
    this.#lose('stopped');
    if (term === undefined || !mine) return;
    await this.#write(term.record.resourceVersion, term, undefined, 1_000).catch((error: unknown) => {
      this.#c.log.warn(
        { reason: describeError(error) },
        'could not give the lease up; it runs out by itself',
      );
    });
  }

  async #loop(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#c;
    while (!signal.aborted) {
      try {
        await (this.#term === undefined ? this.#campaign(signal) : this.#renew(signal));
        this.#problem = undefined;
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ leads: this.leads, reason: describeError(error) }, 'could not see to the lease');
        this.#problem = {
          source: `lease ${this.#init.namespace}/${this.#init.name}`,
          message: explain(error),
        };
      }
      const asked =
        this.#term === undefined ? this.#init.retryMs * (1 + 0.2 * this.#init.random()) : this.#init.retryMs;
      await delay(clock, asked, signal).catch(() => undefined);
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const term = this.#term;
    if (term === undefined) return;
    if (!this.leads) {
      this.#lose('the lease could not be renewed in time');
      return;
    }
    const sentAt = this.#c.clock.mono();
    try {
      const record = await this.#write(
        term.record.resourceVersion,
        term,
        this.#init.identity,
        this.#init.leaseMs,
        signal,
      );
      if (this.#term !== term) return;
      term.record = record;
      this.#extend(term, sentAt);
    } catch (error) {
      if (!isKubeError(error, 404, 409)) throw error;
      // Somebody wrote it. Unless that was this hub, with an answer that got lost, the lease is theirs.
      const record = await this.#read(signal);
      if (record?.holder === this.#init.identity) term.record = record;
      else
        this.#lose(
          record === undefined ? 'the lease was deleted' : `the lease went to ${record.holder || 'nobody'}`,
        );
    }
  }

  async #campaign(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#c;
    const record = await this.#read(signal);
    if (record !== undefined && record.holder !== '' && record.holder !== this.#init.identity) {
      const seen = this.#seen?.record;
      // Only how long it stands still by our own clock counts: nobody's wall clock is trusted.
      if (seen?.renewTime !== record.renewTime || seen.holder !== record.holder) {
        const news = seen?.holder !== record.holder;
        this.#seen = { record, since: clock.mono() };
        if (news) log.info({ leader: record.holder }, 'another hub leads');
        if (news) this.#tell();
        return;
      }
      if (clock.mono() - (this.#seen?.since ?? clock.mono()) < record.durationMs) return;
    }
    const transitions = record === undefined ? 0 : record.transitions + 1;
    const epoch = await this.#c.nextEpoch(Math.max(record?.epoch ?? 0, transitions) + 1);
    const sentAt = clock.mono();
    const fresh = {
      epoch,
      acquiredAt: clock.now(),
      record: { ...(record ?? parseLease(undefined)), transitions },
    };
    try {
      const written = await this.#write(
        record?.resourceVersion,
        fresh,
        this.#init.identity,
        this.#init.leaseMs,
        signal,
      );
      const term: Term = { ...fresh, record: written, validUntil: 0 };
      this.#term = term;
      this.#seen = { record: written, since: sentAt };
      this.#extend(term, sentAt);
      if (!this.leads) return;
      log.info({ epoch, identity: this.#init.identity }, 'this hub leads');
      this.#tell();
    } catch (error) {
      // Another hub was faster; the next look shows it.
      if (!isKubeError(error, 409)) throw error;
    }
  }

  #extend(term: Term, sentAt: number): void {
    const { clock } = this.#c;
    term.validUntil = sentAt + this.#init.renewMs;
    this.#cancelExpiry?.();
    this.#cancelExpiry = clock.after(Math.max(0, term.validUntil - clock.mono()), () =>
      this.#lose('the lease could not be renewed in time'),
    );
  }

  #lose(reason: string): void {
    this.#cancelExpiry?.();
    this.#cancelExpiry = undefined;
    if (this.#term === undefined) return;
    this.#term = undefined;
    this.#seen = undefined;
    this.#c.log.warn({ reason }, 'this hub leads no longer');
    this.#tell();
  }

  async #read(signal: AbortSignal): Promise<LeaseRecord | undefined> {
    try {
      const path = `${this.#path}/${this.#init.name}`;
      return parseLease(await this.#c.client.json('GET', { path, signal, timeoutMs: LEASE_REQUEST_MS }));
    } catch (error) {
      if (isKubeError(error, 404)) return undefined;
      throw error;
    }
  }

  async #write(
    resourceVersion: string | undefined,
    term: Omit<Term, 'validUntil'>,
    holder: string | undefined,
    durationMs: number,
    signal?: AbortSignal,
  ): Promise<LeaseRecord> {
    const { namespace, name, api } = this.#init;
    const body = leaseObject({
      namespace,
      name,
      holder,
      durationMs,
      transitions: term.record.transitions,
      epoch: term.epoch,
      api: api(),
      acquiredAt: term.acquiredAt,
      now: this.#c.clock.now(),
      resourceVersion,
    });
    const request = { body, signal, timeoutMs: LEASE_REQUEST_MS };
    const written =
      resourceVersion === undefined
        ? await this.#c.client.json('POST', { ...request, path: this.#path })
        : await this.#c.client.json('PUT', { ...request, path: `${this.#path}/${name}` });
    return parseLease(written);
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function explain(error: unknown): string {
  const why = describeError(error);
  return isKubeError(error, 403)
    ? `the hub may not keep its lease: give its service account verbs get, create, update on leases.coordination.k8s.io in its namespace (${why}); it does not lead until then`
    : `the lease cannot be kept: ${why}; without it this hub does not lead`;
}
