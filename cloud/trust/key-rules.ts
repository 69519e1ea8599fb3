/** Which keys stand for which node: changes of the state, each checked whole before anything is changed. */
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { refused } from '../../shared/trust/certificate.ts';
import type { KeyId } from '../../shared/trust/types.ts';
import { MAX_KEYS, MAX_NODES, REMEMBER_REVOKED_MS } from './constants.ts';
import type { KeyEntry, NodeEntry, TrustState } from './trust-state.ts';

export type NewKey = Pick<KeyEntry, 'keyId' | 'serial' | 'issuer' | 'issuedAt' | 'notAfter'>;

export interface Admission {
  readonly node: NodeName;
  readonly pool: PoolName;
  readonly by: string;
  readonly platform?: string | undefined;
  readonly replace: boolean;
  readonly key: NewKey;
}

/** @throws TidepoolError CONFLICT, CERTIFICATE_REFUSED, OVERLOADED */
export function checkAdmission(state: TrustState, { node, pool, replace, key }: Admission): void {
  checkKey(state, node, key.keyId);
  const entry = state.nodes.get(node);
  if (entry === undefined) {
    if (state.nodes.size < MAX_NODES) return;
    throw new TidepoolError(
      'OVERLOADED',
      `${MAX_NODES} nodes are enrolled, which is as many as there may be`,
    );
  }
  if (entry.pool !== pool) {
    const message = `node ${node} is enrolled in pool ${entry.pool}; move it with tidepool-hub nodes move ${node} --pool ${pool}, or take a token of its pool`;
    throw new TidepoolError('CONFLICT', message);
  }
  if (!replace && !entry.keys.some(({ keyId }) => keyId === key.keyId)) {
    const message = `a node ${node} is enrolled already; where this is the same one set up anew, enrol it with --replace, which ends the certificates that it had`;
    throw new TidepoolError('CONFLICT', message);
  }
}

/** After {@link checkAdmission}. */
export function admit(state: TrustState, admission: Admission): void {
  const { node, pool, by, platform, key } = admission;
  const before = state.nodes.get(node);
  for (const old of before?.keys ?? []) if (old.keyId !== key.keyId) revoke(state, node, old, key.issuedAt);
  const entry: NodeEntry = {
    node,
    pool,
    by,
    enrolledAt: key.issuedAt,
    ...(platform === undefined ? {} : { platform }),
    keys: [],
  };
  state.nodes.set(node, entry);
  addKey(state, entry, key);
}

/**
 * The node that may have a new certificate for the key of an old one.
 * @throws TidepoolError NOT_ENROLLED, CERTIFICATE_REFUSED, INVALID_ARGUMENT, CONFLICT
 */
export function checkRenewal(
  state: TrustState,
  shown: { readonly node: NodeName; readonly keyId: KeyId },
  next: KeyId,
): NodeEntry {
  const { node, keyId } = shown;
  const entry = state.nodes.get(node);
  if (entry === undefined) {
    const message = `node ${node} is not enrolled here (any more): enrol it again`;
    throw new TidepoolError('NOT_ENROLLED', message);
  }
  const old = entry.keys.find((each) => each.keyId === keyId);
  if (old === undefined && state.revoked.get(keyId)?.renewable !== true) {
    throw refused('it is not one of those that this hub knows of the node; enrol it again');
  }
  if (old?.superseded === true) throw refused('a later one of the same node is in use');
  if (next === keyId) {
    const message = 'the certificate request is refused: a new certificate takes a new key';
    throw new TidepoolError('INVALID_ARGUMENT', message);
  }
  checkKey(state, node, next);
  if (entry.keys.length >= MAX_KEYS && !entry.keys.some((each) => each.keyId === next)) {
    const message = `node ${node} has ${MAX_KEYS} certificates that have not ended; enrol it again with --replace`;
    throw new TidepoolError('CONFLICT', message);
  }
  return entry;
}

/** After {@link checkRenewal}. */
export function renew(state: TrustState, entry: NodeEntry, key: NewKey): void {
  addKey(state, entry, key);
  const gone = entry.keys.filter(({ pool }) => pool !== entry.pool);
  // The answer may get lost: until the new certificate is in use the old one may ask again.
  for (const old of gone) revoke(state, entry.node, old, key.issuedAt, true);
  entry.keys = entry.keys.filter(({ pool }) => pool === entry.pool);
}

/** The node's certificate of this key is in use: those before it are over. False where that was known. */
export function isFirstUse(state: TrustState, { node, keyId }: { node: NodeName; keyId: KeyId }): boolean {
  const key = state.nodes.get(node)?.keys.find((each) => each.keyId === keyId);
  return key !== undefined && !key.used;
}

export function markUsed(state: TrustState, { node, keyId }: { node: NodeName; keyId: KeyId }): void {
  const entry = state.nodes.get(node);
  const at = entry?.keys.findIndex((each) => each.keyId === keyId) ?? -1;
  entry?.keys.slice(0, at + 1).forEach((each) => {
    if (each.keyId === keyId) each.used = true;
    else each.superseded = true;
  });
  for (const each of state.revoked.values()) if (each.node === node) each.renewable = false;
}

/** Every key of the node; their number. */
export function revokeNode(state: TrustState, entry: NodeEntry, now: number): number {
  const { node, keys } = entry;
  for (const key of keys) revoke(state, node, key, now);
  for (const each of state.revoked.values()) if (each.node === node) each.renewable = false;
  entry.keys = [];
  return keys.length;
}

/** Takes out what has ended so long ago that nobody takes it any more; false when there was nothing. */
export function prune(state: TrustState, now: number, graceMs: number): boolean {
  let found = false;
  for (const entry of state.nodes.values()) {
    const living = entry.keys.filter(({ notAfter }) => now - notAfter <= graceMs);
    if (living.length === entry.keys.length) continue;
    for (const each of entry.keys) if (!living.includes(each)) state.owners.delete(each.keyId);
    entry.keys = living;
    found = true;
  }
  for (const [keyId, { notAfter }] of state.revoked) {
    if (now - notAfter > REMEMBER_REVOKED_MS) found = state.revoked.delete(keyId);
  }
  for (const [id, { expiresAt }] of state.tokens) {
    if (now > expiresAt) found = state.tokens.delete(id);
  }
  return found;
}

function checkKey(state: TrustState, node: NodeName, keyId: KeyId): void {
  if (state.revoked.has(keyId)) throw refused('the key of the request has been revoked; make a new one');
  const owner = state.owners.get(keyId);
  if (owner !== undefined && owner !== node) {
    const message = `the key of the request is another node's (${owner}); each node makes its own`;
    throw new TidepoolError('CONFLICT', message);
  }
}

function addKey(state: TrustState, entry: NodeEntry, key: NewKey): void {
  entry.keys = [
    ...entry.keys.filter(({ keyId }) => keyId !== key.keyId),
    { ...key, pool: entry.pool, used: false, superseded: false },
  ];
  state.owners.set(key.keyId, entry.node);
}

function revoke(state: TrustState, node: NodeName, key: KeyEntry, at: number, renewable = false): void {
  const { keyId, pool, notAfter } = key;
  state.revoked.set(keyId, { keyId, node, pool, at, notAfter, renewable });
  state.owners.delete(keyId);
  state.version++;
}
