/** Identities for tests: a real authority, real keys and certificates, made in memory. */
import { issueNode, type KeyPair, makeHubPair, makeRoot } from '../../cloud/trust/issue.ts';
import { makeRequest } from '../../edge/identity/request.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { keyIdOf, readCertificate, readRoots } from '../../shared/trust/certificate.ts';
import { judge } from '../../shared/trust/judge.ts';
import type { KeyId, Principal, TlsIdentity, TlsMaterial } from '../../shared/trust/types.ts';

export const DAY_MS = 24 * 60 * 60_000;

export interface IdentityOptions {
  /** Wall clock of the certificate's making, ms; now when left out. */
  readonly issuedAt?: number;
  readonly lifetimeMs?: number;
  readonly graceMs?: number;
}

/** An identity whose certificate, roots and revocations a test may change as it goes. */
export class TestIdentity implements TlsIdentity {
  #material: TlsMaterial;
  readonly #listeners = new Set<() => void>();
  readonly #revoked = new Set<KeyId>();
  readonly #graceMs: number;
  now: () => number = () => Date.now();

  constructor(material: TlsMaterial, graceMs = 0) {
    this.#material = material;
    this.#graceMs = graceMs;
  }

  get keyId(): KeyId {
    return readCertificate(this.#material.cert).keyId;
  }

  current(): TlsMaterial {
    return this.#material;
  }

  judge(certificate: Uint8Array): Principal {
    const roots = readRoots(this.#material.ca);
    return judge(certificate, { roots, revoked: this.#revoked, now: this.now(), graceMs: this.#graceMs });
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  revoke(keyId: KeyId): void {
    this.#revoked.add(keyId);
    for (const listener of this.#listeners) listener();
  }

  replace(material: TlsMaterial): void {
    this.#material = material;
    for (const listener of this.#listeners) listener();
  }
}

/** A root, and identities of nodes and hubs under it. */
export class TestAuthority {
  readonly root: KeyPair;

  constructor(root: KeyPair) {
    this.root = root;
  }

  static async make(name = 'test authority', now = Date.now()): Promise<TestAuthority> {
    return new TestAuthority(await makeRoot(name, { now, lifetimeMs: 3_650 * DAY_MS }));
  }

  get keyId(): KeyId {
    const [root] = readRoots(this.root.cert);
    if (root === undefined) throw new Error('an authority without a root');
    return keyIdOf(root.certificate.publicKey);
  }

  async node(node: string, pool: string, options: IdentityOptions = {}): Promise<TestIdentity> {
    const { key, request } = await makeRequest(node);
    const named = { node: parseNodeName(node), pool: parsePoolName(pool) };
    const cert = await issueNode(this.root, request, named, validityOf(options));
    return new TestIdentity({ key, cert, ca: this.root.cert }, options.graceMs);
  }

  async hub(options: IdentityOptions = {}): Promise<TestIdentity> {
    const pair = await makeHubPair(this.root, validityOf(options), ['127.0.0.1', 'localhost']);
    return new TestIdentity({ ...pair, ca: this.root.cert }, options.graceMs);
  }
}

function validityOf({ issuedAt = Date.now(), lifetimeMs = 90 * DAY_MS }: IdentityOptions): {
  now: number;
  lifetimeMs: number;
} {
  return { now: issuedAt, lifetimeMs };
}
