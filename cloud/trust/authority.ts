import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { keyIdOf, readRoots } from '../../shared/trust/certificate.ts';
import type { KeyId, Root } from '../../shared/trust/types.ts';
import { ROOT_LIFETIME_MS } from './constants.ts';
import { type KeyPair, makeRoot } from './issue.ts';
import type { AuthorityContent, Vault } from './types.ts';

const ROOT_NAME = 'tidepool authority';
/** While they overlap; more is a rotation that was never ended. */
const MAX_ROOTS = 4;

/** A root that is trusted, and the key to sign with where it is here. */
export interface HeldRoot extends Root {
  readonly key: string | undefined;
  /** Wall clock, ms. */
  readonly notAfter: number;
}

/**
 * The authority that everybody's certificates come from. The first root issues. Others are trusted beside it: while one
 * replaces another, those who have not heard of the new one yet must not be lost.
 */
export class Authority implements Startable {
  readonly name = 'authority';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #vault: Vault<AuthorityContent>;
  readonly #listeners = new Set<() => void>();
  #roots: readonly HeldRoot[] = [];
  #version: string | undefined;
  #changes: Promise<unknown> = Promise.resolve();

  constructor(components: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly vault: Vault<AuthorityContent>;
  }) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#vault = components.vault;
  }

  /** Reads it, or makes it. @throws TidepoolError STORE_CORRUPT, INVALID_CONFIG, and what the vault throws */
  async start(): Promise<void> {
    if (await this.reload()) return;
    const root = await this.#makeRoot();
    try {
      await this.#write([root]);
      this.#log.info({ authority: this.issuer.keyId, place: this.#vault.place }, 'made an authority');
    } catch (error) {
      // Another hub was quicker: there is one authority, and it is that one's.
      if (!isTidepoolError(error, 'CONFLICT') || !(await this.reload())) throw error;
    }
  }

  async stop(): Promise<void> {
    await this.#changes;
  }

  /** All that are trusted now, the issuing one first. */
  roots(): readonly HeldRoot[] {
    const now = this.#clock.now();
    const living = this.#roots.filter(({ notAfter }) => notAfter > now);
    return living.length > 0 ? living : this.#roots;
  }

  /** Whose certificates nodes get. */
  get issuer(): HeldRoot & KeyPair {
    const found = this.roots().find(canSign);
    if (found === undefined) throw this.#corrupt('it holds no key that fits a root');
    return signing(found);
  }

  /**
   * Whose certificate the hub itself shows: the oldest root, because a node that has been away knows that one, and not
   * yet the one after it. What a join token pins is this one too.
   */
  get hubIssuer(): HeldRoot & KeyPair {
    const found = this.roots().findLast(canSign);
    if (found === undefined) throw this.#corrupt('it holds no key that fits a root');
    return signing(found);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What another hub has written counts from now on; false where there is nothing. */
  async reload(): Promise<boolean> {
    const found = await this.#vault.read();
    if (found === undefined) return false;
    if (found.version === this.#version && found.version !== '') return true;
    this.#take(found.content, found.version);
    return true;
  }

  /** A new root, which issues from now on; the ones before stay trusted. @throws TidepoolError CONFLICT */
  rotate(): Promise<HeldRoot> {
    return this.#inTurn(async () => {
      if (this.#roots.length >= MAX_ROOTS) {
        const message = `there are ${MAX_ROOTS} roots already; end the rotation before: tidepool-hub ca drop ID`;
        throw new TidepoolError('CONFLICT', message);
      }
      await this.#write([await this.#makeRoot(), ...this.#roots]);
      this.#log.warn(
        { authority: this.issuer.keyId },
        'a new root issues certificates; the others stay trusted',
      );
      return this.issuer;
    });
  }

  /** Certificates of that root are worth nothing from now on. @throws TidepoolError NOT_FOUND, CONFLICT */
  drop(keyId: KeyId): Promise<void> {
    return this.#inTurn(async () => {
      const left = this.#roots.filter((root) => root.keyId !== keyId);
      if (left.length === this.#roots.length) {
        throw new TidepoolError('NOT_FOUND', `there is no root ${keyId}; see tidepool-hub ca`);
      }
      if (!left.some(canSign)) {
        const message = 'no root would be left to sign with; make another first: tidepool-hub ca rotate';
        throw new TidepoolError('CONFLICT', message);
      }
      await this.#write(left);
      this.#log.warn({ authority: keyId }, 'a root is no longer trusted');
    });
  }

  async #makeRoot(): Promise<{ readonly pem: string; readonly key: string }> {
    const pair = await makeRoot(ROOT_NAME, { now: this.#clock.now(), lifetimeMs: ROOT_LIFETIME_MS });
    return { pem: pair.cert, key: pair.key };
  }

  async #write(roots: readonly { readonly pem: string; readonly key: string | undefined }[]): Promise<void> {
    const content: AuthorityContent = {
      roots: roots.map(({ pem }) => `${pem.trim()}\n`).join(''),
      keys: roots.map(({ key }) => (key === undefined ? '' : `${key.trim()}\n`)).join(''),
    };
    this.#take(content, await this.#vault.write(content, this.#version));
  }

  #take({ roots, keys }: AuthorityContent, version: string): void {
    let held: readonly HeldRoot[];
    try {
      const found = new Map(readKeys(keys).map((each) => [each.keyId, each.pem]));
      held = readRoots(roots).map((root) => ({
        ...root,
        key: found.get(root.keyId),
        notAfter: Date.parse(root.certificate.validTo),
      }));
    } catch (error) {
      throw this.#corrupt(describeError(error), error);
    }
    if (!held.some(canSign)) throw this.#corrupt('no private key there fits one of its certificates');
    this.#roots = held;
    this.#version = version;
    for (const listener of this.#listeners) listener();
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const next = this.#changes.then(change);
    this.#changes = next.catch(() => undefined);
    return next;
  }

  #corrupt(why: string, cause?: unknown): TidepoolError {
    const message = `the authority in ${this.#vault.place} cannot be used: ${why}; restore it from a backup, because without it every node has to be enrolled again`;
    return new TidepoolError('STORE_CORRUPT', message, { cause });
  }
}

function canSign(root: HeldRoot): root is HeldRoot & { readonly key: string } {
  return root.key !== undefined;
}

function signing(root: HeldRoot & { readonly key: string }): HeldRoot & KeyPair {
  return { ...root, cert: root.pem };
}

function readKeys(pem: string): { readonly keyId: KeyId; readonly pem: string }[] {
  const found = pem.match(/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]+-----END [A-Z ]*PRIVATE KEY-----/g) ?? [];
  return found.map((each) => {
    const key = readKey(each);
    const { namedCurve } = key.asymmetricKeyDetails ?? {};
    if (key.asymmetricKeyType !== 'ec' || namedCurve !== 'prime256v1') {
      throw new TidepoolError('INVALID_CONFIG', 'a private key is not one of ECDSA P-256');
    }
    return {
      keyId: keyIdOf(createPublicKey(key)),
      pem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  });
}

/** Without the library's words: they may quote what stands in the file. */
function readKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new TidepoolError('INVALID_CONFIG', 'a private key cannot be read (PEM without a passphrase)');
  }
}
