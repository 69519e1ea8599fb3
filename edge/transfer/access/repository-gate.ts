import type { Clock } from '../../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../../shared/errors.ts';
import { Recent } from '../../../shared/flow/recent.ts';
import { SingleFlight } from '../../../shared/flow/single-flight.ts';
import type { Digest, NodeName } from '../../../shared/ids.ts';
import type { Logger } from '../../../shared/log.ts';
import type { OfflineAccess } from '../../../shared/wire/messages/tuning.ts';
import type { GrantRecord, RepositoryAccess, RepositoryName, ScopeTable } from '../../index/types.ts';
import type { RegistryOrigin } from '../../origin/types.ts';
import type { Members } from '../../peers/members.ts';
import type { AccessAnswer, AccessAsk, PeerClient } from '../../peers/types.ts';
import { askAll, untilAborted } from '../ask-all.ts';
import { ASK_WAIT_MS } from '../constants.ts';
import { isSilence, type Patience, Silence } from '../patience.ts';
import type { RegistryPace } from '../registry-pace.ts';
import type { ContentRequest } from '../types.ts';
import { FRESH_ENTRIES, FRESH_MS, OFFLINE_FRESH_MS, REFUSED_MS } from './constants.ts';
import type { ContentScope } from './content-scope.ts';
import type { GrantBook } from './grant-book.ts';
import { askRegistry } from './registry-question.ts';

interface RepositoryGateComponents {
  readonly scope: Pick<ContentScope, 'get' | 'addBlob'>;
  readonly table: Pick<ScopeTable, 'access' | 'setAccess'>;
  readonly grants: GrantBook;
  readonly origin: Pick<RegistryOrigin, 'manifest' | 'blobSize' | 'passThrough' | 'downSince'>;
  readonly patience: Pick<Patience, 'put'>;
  readonly pace: Pick<RegistryPace, 'patienceMs' | 'heardAt'>;
  readonly client: Pick<PeerClient, 'access'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What is asked for, where the registry has to be asked whether it may be had. */
export interface Subject {
  readonly digest: Digest;
  readonly kind: 'manifest' | 'blob';
}

/**
 * Who may pull from a repository: everybody, where its registry says so to one who shows no credentials; else whoever shows
 * some that it takes. Its word holds for minutes. While it cannot be asked, what it said last holds: that a repository is
 * open, and for a bounded time that it took these credentials, here or at a neighbour.
 */
export class RepositoryGate {
  readonly #c: RepositoryGateComponents;
  readonly #freshMs: number;
  /** By repository, and by credentials at a repository: may pull for now, without a question. */
  readonly #fresh: Recent<true>;
  /** Who was refused while the registry could not be asked. */
  readonly #refused: Recent<TidepoolError>;
  readonly #flights = new SingleFlight<string, void>();
  #policy: OfflineAccess = 'granted';
  #quorum = 1;

  constructor(components: RepositoryGateComponents, init: { readonly freshMs?: number } = {}) {
    this.#c = components;
    this.#freshMs = init.freshMs ?? FRESH_MS;
    this.#fresh = new Recent(components.clock, FRESH_ENTRIES);
    this.#refused = new Recent(components.clock, FRESH_ENTRIES);
  }

  configure(tags: { readonly offlineAccess: OfflineAccess; readonly quorum: number }): void {
    // What was let in by the other rule is asked again.
    if (tags.offlineAccess !== this.#policy) this.#fresh.clear();
    this.#policy = tags.offlineAccess;
    this.#quorum = tags.quorum;
    this.#refused.clear();
  }

  /**
   * Returns where the request may have what it asks for. Asks the registry when that is not known for now.
   * @throws TidepoolError UNAUTHORIZED, and what else the registry answers
   */
  async check(request: ContentRequest, subject: Subject): Promise<void> {
    if (this.#isFresh(request)) return;
    const flight = `${this.#keyOf(request)} ${subject.digest}`;
    await this.#flights.run(flight, (signal) => this.#ask({ ...request, signal }, subject), request.signal);
  }

  /** The registry has answered a request with what it asked for. */
  authorized(request: ContentRequest): void {
    const { credentials } = request;
    const key = this.#keyOf(request);
    this.#fresh.set(key, true, this.#freshMs);
    this.#refused.delete(key);
    if (credentials !== undefined) {
      this.#c.grants.remember(nameOf(request), credentials);
      return;
    }
    const now = this.#c.clock.now();
    const { openAt = 0, closedAt = 0 } = this.#c.table.access(request);
    if (openAt <= closedAt || now - openAt > this.#freshMs / 2 || openAt > now) {
      this.#c.table.setAccess(request, { openAt: Math.max(now, closedAt + 1) });
    }
  }

  /** What a client is told when the registry refuses; a refusal is remembered against what was known before. */
  refusal(request: ContentRequest, error: unknown): unknown {
    const denied = isTidepoolError(error, 'DENIED') && error.details.outsideScope !== true;
    if (!denied && !isTidepoolError(error, 'UNAUTHORIZED')) return error;
    const { credentials } = request;
    this.#fresh.delete(this.#keyOf(request));
    if (credentials !== undefined) {
      this.#c.grants.forget(nameOf(request), credentials);
      return error;
    }
    const { openAt, closedAt } = this.#c.table.access(request);
    if (openAt !== undefined && openAt > (closedAt ?? 0)) {
      this.#c.table.setAccess(request, { closedAt: Math.max(this.#c.clock.now(), openAt + 1) });
    }
    // 401 has the runtime come again with what it has.
    return denied ? new TidepoolError('UNAUTHORIZED', error.message, { cause: error }) : error;
  }

  /** Decides while the registry cannot be asked. @throws TidepoolError UNAUTHORIZED */
  async offline(request: ContentRequest, why: string): Promise<void> {
    if (this.#isFresh(request)) return;
    const key = this.#keyOf(request);
    const before = this.#refused.get(key);
    if (before !== undefined) throw before;
    if (this.#policy !== 'node' && !(await this.#isKnown(request))) {
      const { registry, repository, credentials } = request;
      const who =
        credentials === undefined
          ? 'it is not known to be open to all'
          : 'it is not known to be open to all, nor to this account within the last days';
      const refused = new TidepoolError(
        'UNAUTHORIZED',
        `${registry} cannot be asked who may pull ${repository} (${why}), and ${who}; pull it once while the registry answers, or have tags.offlineAccess say node`,
        { details: { offline: true } },
      );
      this.#refused.set(key, refused, REFUSED_MS);
      throw refused;
    }
    this.#fresh.set(key, true, OFFLINE_FRESH_MS);
  }

  /** What this node tells a neighbour. */
  tell(ask: AccessAsk): AccessAnswer {
    const { digest, grant } = ask;
    const grantedAt = grant === undefined ? undefined : this.#c.grants.grantedAt(grant);
    const entry = digest === undefined ? undefined : this.#c.scope.get(ask, digest);
    const downSince = this.#c.origin.downSince(ask.registry);
    const patienceMs = this.#c.pace.patienceMs(ask.registry);
    const { heardAt } = this.#c.pace;
    return {
      ...this.#c.table.access(ask),
      ...(grantedAt === undefined ? {} : { grantedAt }),
      ...(entry === undefined
        ? {}
        : { scope: { kind: entry.kind, ...(entry.via === undefined ? {} : { via: entry.via }) } }),
      ...(downSince === undefined ? {} : { downSince }),
      ...(patienceMs === undefined ? {} : { patienceMs }),
      ...(heardAt === undefined ? {} : { heardMs: this.#c.clock.mono() - heardAt }),
    };
  }

  granted(from: NodeName, grants: readonly GrantRecord[]): void {
    this.#c.grants.told(from, grants);
    this.#refused.clear();
  }

  async #ask(request: ContentRequest, subject: Subject): Promise<void> {
    const { signal } = request;
    const question = this.#c.patience.put(request, { quorum: this.#quorum, signal }, (inner) =>
      this.#answer({ ...request, signal: inner }, subject),
    );
    const first = await untilAborted(question.patient, signal);
    if (!(first instanceof Silence)) return;
    // What is known here decides. The registry's word is waited for by whom nothing else lets in.
    try {
      await this.offline(request, describeError(first.why));
    } catch (error) {
      signal?.throwIfAborted();
      await untilAborted(question.answer, signal).catch((reason: unknown) => {
        throw isSilence(reason) ? error : reason;
      });
    }
  }

  /** The registry's own word. @throws what a client is told when it refuses, or that it is silent */
  async #answer(request: ContentRequest, subject: Subject): Promise<void> {
    try {
      await askRegistry(this.#c, request, subject);
    } catch (error) {
      throw isSilence(error) || request.signal?.aborted === true ? error : this.refusal(request, error);
    }
    this.authorized(request);
  }

  /** From what is kept here, else from what neighbours have kept. */
  async #isKnown(request: ContentRequest): Promise<boolean> {
    const { credentials, signal } = request;
    const name = nameOf(request);
    const own = this.#c.table.access(name);
    if (isOpen(own)) return true;
    const grant = credentials === undefined ? undefined : await this.#c.grants.id(name, credentials, signal);
    if (grant !== undefined && this.#c.grants.grantedAt(grant) !== undefined) return true;
    const ask: AccessAsk = { ...name, ...(grant === undefined ? {} : { grant }) };
    const opens = ({ openAt = 0, grantedAt }: AccessAnswer): boolean =>
      grantedAt !== undefined || openAt > (own.closedAt ?? 0);
    const answers = await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => this.#c.client.access(member, ask, inner),
      enough: opens,
    });
    const now = this.#c.clock.now();
    for (const { member, value } of answers) {
      const { openAt, closedAt, grantedAt } = value;
      if (grant !== undefined && grantedAt !== undefined) {
        this.granted(member.node, [{ id: grant, grantedAt }]);
        if (this.#c.grants.grantedAt(grant) !== undefined) return true;
      }
      if (openAt === undefined || openAt <= Math.max(own.closedAt ?? 0, closedAt ?? 0)) continue;
      this.#c.table.setAccess(name, { openAt: Math.min(openAt, now) });
      return true;
    }
    return false;
  }

  #isFresh(request: ContentRequest): boolean {
    const { registry, repository, credentials } = request;
    if (this.#fresh.get(openKey(registry, repository)) === true) return true;
    return credentials !== undefined && this.#fresh.get(this.#keyOf(request)) === true;
  }

  #keyOf({ registry, repository, credentials }: ContentRequest): string {
    if (credentials === undefined) return openKey(registry, repository);
    return this.#c.grants.account({ registry, repository }, credentials);
  }
}

function isOpen({ openAt = 0, closedAt = 0 }: RepositoryAccess): boolean {
  return openAt > closedAt;
}

function openKey(registry: string, repository: string): string {
  return `${registry}/${repository}`;
}

function nameOf({ registry, repository }: RepositoryName): RepositoryName {
  return { registry, repository };
}
