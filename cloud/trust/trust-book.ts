import { type Clock, every } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { type NodeName, type PoolName, quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { formatJoinToken, type JoinToken } from '../../shared/trust/join-token.ts';
import type { KeyId, NodePrincipal } from '../../shared/trust/types.ts';
import type { Authority } from './authority.ts';
import { LOOK_MS, MAX_TOKENS, MAX_TOLD_KEYS } from './constants.ts';
import type { KeyBook } from './hub-identity.ts';
import { isFirstUse, markUsed, prune, revokeNode } from './key-rules.ts';
import type { Ledger } from './ledger.ts';
import { checkToken, newToken, type Taker, type TokenWish } from './token-rules.ts';
import type { NodeEntry, RevokedKey, TokenEntry, TrustState } from './trust-state.ts';
import type { EnrolledNodes, PoolTrust, PoolTrustSource } from './types.ts';

export interface TrustBookComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly ledger: Ledger;
  readonly authority: Authority;
}

/** Who was let in, into which pool, by which keys; which keys are over; and which tokens let others in. */
export class TrustBook implements KeyBook, PoolTrustSource, Startable {
  readonly name = 'trust book';
  /** Of pools and who is in them. */
  readonly nodes: EnrolledNodes;
  readonly #c: TrustBookComponents;
  readonly #graceMs: number;
  readonly #revocationListeners = new Set<() => void>();
  readonly #nodeListeners = new Set<() => void>();
  readonly #stops: (() => void)[] = [];
  #told = -1;
  #cancelTell: (() => void) | undefined;
  #revoked: ReadonlySet<KeyId> = new Set();
  #renewable: ReadonlySet<KeyId> = new Set();
  #newestFirst: readonly RevokedKey[] = [];
  #enrolled: ReadonlyMap<NodeName, PoolName> = new Map();

  constructor(components: TrustBookComponents, init: { readonly graceMs: number }) {
    this.#c = components;
    this.#graceMs = init.graceMs;
    this.nodes = {
      poolOf: (node) => this.#c.ledger.state.nodes.get(node)?.pool,
      enrolled: () => this.#enrolled,
      onChange: (listener) => {
        this.#nodeListeners.add(listener);
        return () => this.#nodeListeners.delete(listener);
      },
    };
  }

  async start(): Promise<void> {
    const { authority, clock, ledger } = this.#c;
    this.#stops.push(
      ledger.onReload(() => this.#follow()),
      authority.onChange(() => this.#onRoots()),
      every(clock, LOOK_MS, () => this.#look()),
    );
    this.#look();
    this.#follow();
    this.#onRoots();
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop();
    this.#cancelTell?.();
  }

  get revoked(): ReadonlySet<KeyId> {
    return this.#revoked;
  }

  get renewable(): ReadonlySet<KeyId> {
    return this.#renewable;
  }

  seen({ node, keyId }: NodePrincipal): void {
    const { ledger } = this.#c;
    if (!isFirstUse(ledger.state, { node, keyId })) return;
    ledger.lazily((state) => markUsed(state, { node, keyId }));
    this.#collect();
  }

  /** Told of each revocation, and of other roots. */
  onChange(listener: () => void): () => void {
    this.#revocationListeners.add(listener);
    return () => this.#revocationListeners.delete(listener);
  }

  trustOf(pool: PoolName): PoolTrust {
    const own = this.#newestFirst.filter((each) => each.pool === pool);
    // Pools that are upstream of others meet their nodes too.
    const others = this.#newestFirst.filter((each) => each.pool !== pool);
    return {
      version: this.#c.ledger.state.version,
      roots: this.#c.authority.roots().map(({ pem }) => pem),
      revoked: [...own, ...others].slice(0, MAX_TOLD_KEYS).map(({ keyId }) => keyId),
    };
  }

  entry(node: NodeName): NodeEntry | undefined {
    return this.#c.ledger.state.nodes.get(node);
  }

  /**
   * A change that concerns nodes or keys; resolves when it is durable.
   * @param tellAfterMs what follows from it counts at once, and is told so much later: to somebody whose own connection
   * ends by being told, and who waits for an answer on it
   */
  async change<R>(mutate: (state: TrustState) => R, tellAfterMs = 0): Promise<R> {
    const done = this.#c.ledger.change(mutate);
    if (tellAfterMs === 0) this.#follow();
    else {
      this.#collect();
      this.#cancelTell ??= this.#c.clock.after(tellAfterMs, () => this.#follow());
    }
    return await done;
  }

  /** The answer is how many keys lost their worth. @throws TidepoolError NOT_FOUND */
  async revoke(node: NodeName): Promise<number> {
    const { clock, log } = this.#c;
    const keys = await this.change((state) => revokeNode(state, mustKnow(state, node), clock.now()));
    log.warn({ node, keys }, 'a node’s keys are revoked');
    return keys;
  }

  /** The node gets certificates of that pool from now on. @throws TidepoolError NOT_FOUND */
  async move(node: NodeName, pool: PoolName): Promise<void> {
    await this.change((state) => {
      mustKnow(state, node).pool = pool;
    });
    this.#c.log.info({ node, pool }, 'a node is moved to another pool');
  }

  /** As {@link revoke}, and its name is free again; false for one that was never enrolled. */
  async forget(node: NodeName): Promise<boolean> {
    if (this.entry(node) === undefined) return false;
    await this.change((state) => {
      revokeNode(state, mustKnow(state, node), this.#c.clock.now());
      state.nodes.delete(node);
    });
    return true;
  }

  /** The pool that a token lets its taker into; nothing is counted. @throws TidepoolError TOKEN_REFUSED */
  poolOfToken(token: JoinToken, taker: Taker): PoolName {
    return checkToken(this.#c.ledger.state.tokens, token, taker).pool;
  }

  tokens(): readonly TokenEntry[] {
    return [...this.#c.ledger.state.tokens.values()].sort((a, b) => a.createdAt - b.createdAt);
  }

  /** The token's text is told this once. @throws TidepoolError OVERLOADED */
  async createToken(
    wish: Omit<TokenWish, 'now'>,
  ): Promise<{ readonly token: string; readonly entry: TokenEntry }> {
    const { authority, clock } = this.#c;
    const { entry, secret } = newToken({ ...wish, now: clock.now() });
    await this.#c.ledger.change((state) => {
      prune(state, clock.now(), this.#graceMs);
      if (state.tokens.size >= MAX_TOKENS) {
        const message = `there are ${MAX_TOKENS} join tokens, which is as many as there may be; delete some`;
        throw new TidepoolError('OVERLOADED', message);
      }
      state.tokens.set(entry.id, entry);
    });
    const { keyId } = authority.hubIssuer;
    return { token: formatJoinToken({ id: entry.id, secret, authority: keyId }), entry };
  }

  /** @throws TidepoolError NOT_FOUND */
  async deleteToken(id: string): Promise<void> {
    await this.#c.ledger.change((state) => {
      if (!state.tokens.delete(id)) {
        throw new TidepoolError('NOT_FOUND', `there is no join token ${quote(id)}`);
      }
    });
  }

  /** Live certificates by the root that signed them. */
  issuedBy(root: KeyId): number {
    const now = this.#c.clock.now();
    const keys = [...this.#c.ledger.state.nodes.values()].flatMap((entry) => entry.keys);
    return keys.filter((key) => key.issuer === root && !key.superseded && key.notAfter > now).length;
  }

  #look(): void {
    const { clock, ledger } = this.#c;
    if (prune(ledger.state, clock.now(), this.#graceMs)) ledger.lazily(() => undefined);
  }

  /** Agents take roots only with a version over the one that they have. */
  #onRoots(): void {
    const { authority, ledger, log } = this.#c;
    const roots = authority
      .roots()
      .map(({ keyId }) => keyId)
      .join(' ');
    if (ledger.state.roots === roots) return;
    this.change((state) => {
      state.roots = roots;
      state.version++;
    }).catch((error: unknown) => {
      log.error({ reason: describeError(error) }, 'that the roots have changed could not be saved');
    });
  }

  #follow(): void {
    this.#cancelTell?.();
    this.#cancelTell = undefined;
    const { state } = this.#c.ledger;
    const before = this.#enrolled;
    const same =
      before.size === state.nodes.size &&
      [...state.nodes.values()].every(({ node, pool }) => before.get(node) === pool);
    if (!same) {
      this.#enrolled = new Map([...state.nodes.values()].map(({ node, pool }) => [node, pool]));
      for (const listener of this.#nodeListeners) listener();
    }
    if (state.version === this.#told) return;
    this.#told = state.version;
    this.#collect();
    for (const listener of this.#revocationListeners) listener();
  }

  #collect(): void {
    const { revoked } = this.#c.ledger.state;
    this.#revoked = new Set(revoked.keys());
    this.#newestFirst = [...revoked.values()].sort((a, b) => b.at - a.at);
    this.#renewable = new Set(this.#newestFirst.flatMap((each) => (each.renewable ? [each.keyId] : [])));
  }
}

function mustKnow(state: TrustState, node: NodeName): NodeEntry {
  const entry = state.nodes.get(node);
  if (entry !== undefined) return entry;
  throw new TidepoolError('NOT_FOUND', `no node ${quote(node)} is enrolled; see tidepool-hub nodes`);
}
