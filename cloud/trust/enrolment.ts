import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { refused } from '../../shared/trust/certificate.ts';
import { type JoinToken, parseJoinToken } from '../../shared/trust/join-token.ts';
import type { KeyId, Principal } from '../../shared/trust/types.ts';
import type { Authority } from './authority.ts';
import { SIGNING } from './constants.ts';
import { issueNode, newSerial, requestKeyId } from './issue.ts';
import { admit, checkAdmission, checkRenewal, type NewKey, renew } from './key-rules.ts';
import { SigningQueue } from './signing-queue.ts';
import { checkToken, countUse, tokenRefused } from './token-rules.ts';
import type { TrustBook } from './trust-book.ts';
import type { ServiceAccountReviewer } from './types.ts';

export interface EnrolmentComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly authority: Authority;
  readonly book: TrustBook;
  readonly identity: { judgeForRenewal(certificate: Uint8Array): Principal };
  /** Undefined outside of Kubernetes. */
  readonly reviewer: ServiceAccountReviewer | undefined;
  /** The pool that the documents put a node into, for nodes that come by a ServiceAccount for the first time. */
  readonly poolOf: (node: NodeName) => PoolName | undefined;
}

export interface EnrolmentInit {
  readonly lifetimeMs: number;
  readonly signing?: { readonly atOnce: number; readonly waiting: number };
}

export interface EnrolRequest {
  readonly node: NodeName;
  /** PEM. */
  readonly request: string;
  readonly token?: string | undefined;
  readonly serviceAccountToken?: string | undefined;
  readonly replace?: boolean | undefined;
  readonly platform?: string | undefined;
}

/** What a node is answered. */
export interface Enrolled {
  readonly certificate: string;
  /** PEM, all of them. */
  readonly roots: string;
  readonly pool: PoolName;
  readonly revoked: readonly KeyId[];
  readonly trustVersion: number;
}

/** For an answer to leave. */
const ANSWER_MS = 2_000;

interface Vouched {
  readonly pool: PoolName;
  readonly by: string;
  readonly token?: JoinToken;
}

/** Lets nodes in, and gives those inside their next certificates. What a certificate needs is durable before it exists. */
export class Enrolment {
  readonly #c: EnrolmentComponents;
  readonly #lifetimeMs: number;
  readonly #queue: SigningQueue;

  constructor(components: EnrolmentComponents, init: EnrolmentInit) {
    this.#c = components;
    this.#lifetimeMs = init.lifetimeMs;
    this.#queue = new SigningQueue(init.signing ?? SIGNING);
  }

  /** @throws TidepoolError TOKEN_REFUSED, CONFLICT, INVALID_ARGUMENT, CERTIFICATE_REFUSED, OVERLOADED, KUBE_… */
  async enrol(wanted: EnrolRequest, signal?: AbortSignal): Promise<Enrolled> {
    const vouched = await this.#vouch(wanted, signal);
    return await this.#queue.run(() => this.#admit(wanted, vouched), signal);
  }

  /**
   * @param shown the certificate of the connection (DER), which may have ended a while ago
   * @throws TidepoolError CERTIFICATE_REFUSED, NOT_ENROLLED, INVALID_ARGUMENT, CONFLICT, OVERLOADED
   */
  async renew(shown: Uint8Array, request: string, signal?: AbortSignal): Promise<Enrolled> {
    const principal = this.#c.identity.judgeForRenewal(shown);
    if (principal.kind !== 'node') throw refused('it is the hub’s; the hub renews its own');
    return await this.#queue.run(async () => {
      const next = await requestKeyId(request);
      const key = this.#newKey(next);
      const pool = await this.#c.book.change((state) => {
        const entry = checkRenewal(state, principal, next);
        renew(state, entry, key);
        return entry.pool;
        // The old key may be over by this, and the answer goes out on a connection that was let in by it.
      }, ANSWER_MS);
      const { node } = principal;
      this.#c.log.info({ node, pool, key: next, lapsed: principal.lapsed }, 'a certificate is renewed');
      return await this.#issue(request, { node, pool }, key);
    }, signal);
  }

  async #vouch(wanted: EnrolRequest, signal: AbortSignal | undefined): Promise<Vouched> {
    const { node, token, serviceAccountToken } = wanted;
    if (token !== undefined && serviceAccountToken === undefined) {
      const joinToken = readToken(token);
      const { book, clock } = this.#c;
      // Before anything that costs something: who has no token makes nobody work. It is looked at again when it counts.
      const keyId = await requestKeyId(wanted.request);
      const pool = book.poolOfToken(joinToken, { node, keyId, now: clock.now() });
      return { pool, by: `join-token:${joinToken.id}`, token: joinToken };
    }
    if (serviceAccountToken !== undefined && token === undefined) {
      return await this.#vouchByAccount(node, serviceAccountToken, signal);
    }
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      'an enrolment takes a token or a serviceAccountToken, one of them',
    );
  }

  async #vouchByAccount(node: NodeName, token: string, signal: AbortSignal | undefined): Promise<Vouched> {
    const { book, poolOf, reviewer } = this.#c;
    if (reviewer === undefined) {
      const message = 'this hub asks no Kubernetes about ServiceAccount tokens; enrol with a join token';
      throw new TidepoolError('TOKEN_REFUSED', message);
    }
    const found = await reviewer.review(token, signal);
    if (found.node !== node) {
      const message = `the token is of a pod on node ${found.node}, and this is to be node ${node}`;
      throw new TidepoolError('TOKEN_REFUSED', message);
    }
    const pool = book.nodes.poolOf(node) ?? poolOf(node);
    if (pool === undefined) {
      const message = `node ${node} is in no pool yet: label it with the name of its pool, and its agent gets in`;
      throw new TidepoolError('CONFLICT', message);
    }
    return { pool, by: `serviceaccount:${found.account}` };
  }

  async #admit(wanted: EnrolRequest, { pool, by, token }: Vouched): Promise<Enrolled> {
    const { book, clock, log } = this.#c;
    const { node, platform, replace = false, request } = wanted;
    const keyId = await requestKeyId(request);
    const key = this.#newKey(keyId);
    // In one piece: two nodes that come with the last use of a token at once are one after the other here.
    await book.change((state) => {
      const taker = { node, keyId, now: clock.now() };
      const entry = token === undefined ? undefined : checkToken(state.tokens, token, taker);
      const admission = { node, pool, by, platform, replace, key };
      checkAdmission(state, admission);
      if (entry !== undefined) countUse(entry, taker);
      admit(state, admission);
    });
    log.info({ node, pool, by, key: keyId, replace }, 'a node is enrolled');
    return await this.#issue(request, { node, pool }, key);
  }

  #newKey(keyId: KeyId): NewKey {
    const { authority, clock } = this.#c;
    const now = clock.now();
    const { keyId: issuer, notAfter } = authority.issuer;
    const end = Math.min(now + this.#lifetimeMs, notAfter);
    return { keyId, serial: newSerial(), issuer, issuedAt: now, notAfter: end };
  }

  async #issue(
    request: string,
    named: { readonly node: NodeName; readonly pool: PoolName },
    { issuedAt, notAfter, serial, issuer }: NewKey,
  ): Promise<Enrolled> {
    const { authority, book } = this.#c;
    const root = authority.issuer;
    // The authority was replaced in between: the book says that another one has signed this.
    if (root.keyId !== issuer)
      throw new TidepoolError('HUB_UNREACHABLE', 'the authority has just changed; try again');
    const certificate = await issueNode(root, request, named, {
      now: issuedAt,
      lifetimeMs: notAfter - issuedAt,
      serial,
    });
    const { roots, revoked, version } = book.trustOf(named.pool);
    return { certificate, roots: roots.join(''), pool: named.pool, revoked, trustVersion: version };
  }
}

function readToken(text: string): JoinToken {
  try {
    return parseJoinToken(text);
  } catch {
    throw tokenRefused();
  }
}
