/** Join tokens: what is kept of them, and when one counts. */
import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { JoinToken } from '../../shared/trust/join-token.ts';
import type { KeyId } from '../../shared/trust/types.ts';
import { RETRY_MS } from './constants.ts';
import type { TokenEntry } from './trust-state.ts';

const ID_ALPHABET = 'abcdefghijkmnpqrstuvwxyz23456789';
const ID_LENGTH = 8;
const SECRET_BYTES = 24;
/** Compared with where there is no token, so that this takes as long. */
const NO_HASH = hashOf('');

export interface TokenWish {
  readonly pool: PoolName;
  readonly uses: number;
  readonly ttlMs: number;
  readonly now: number;
}

export function newToken({ pool, uses, ttlMs, now }: TokenWish): {
  readonly entry: TokenEntry;
  readonly secret: string;
} {
  const id = Array.from({ length: ID_LENGTH }, () => ID_ALPHABET[randomInt(ID_ALPHABET.length)]).join('');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  const hash = hashOf(secret);
  return {
    entry: { id, hash, pool, createdAt: now, expiresAt: now + ttlMs, uses, used: 0, takers: [] },
    secret,
  };
}

export interface Taker {
  readonly node: NodeName;
  readonly keyId: KeyId;
  readonly now: number;
}

/**
 * The token that counts for this node; nothing is counted yet, see {@link countUse}.
 * @throws TidepoolError TOKEN_REFUSED, in the same words whatever is wrong
 */
export function checkToken(
  tokens: ReadonlyMap<string, TokenEntry>,
  given: Pick<JoinToken, 'id' | 'secret'>,
  taker: Taker,
): TokenEntry {
  const entry = tokens.get(given.id);
  const right = timingSafeEqual(Buffer.from(entry?.hash ?? NO_HASH), Buffer.from(hashOf(given.secret)));
  if (entry === undefined || !right || taker.now >= entry.expiresAt) throw tokenRefused();
  if (entry.used >= entry.uses && !isRetry(entry, taker)) throw tokenRefused();
  return entry;
}

/** Counts a use, unless this node was counted a moment ago and has lost the answer. */
export function countUse(entry: TokenEntry, taker: Taker): void {
  if (isRetry(entry, taker)) return;
  entry.used++;
  entry.takers = [
    ...entry.takers.filter(({ at }) => taker.now - at < RETRY_MS),
    { node: taker.node, keyId: taker.keyId, at: taker.now },
  ];
}

export function tokenRefused(): TidepoolError {
  return new TidepoolError(
    'TOKEN_REFUSED',
    'the join token is refused: it is not known here, used up, or its time is over; make another with tidepool-hub token create',
  );
}

function isRetry({ takers }: TokenEntry, { node, keyId, now }: Taker): boolean {
  return takers.some((each) => each.node === node && each.keyId === keyId && now - each.at < RETRY_MS);
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}
