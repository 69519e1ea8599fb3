import { type Clock, every } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { readCertificate } from '../../shared/trust/certificate.ts';
import { judge } from '../../shared/trust/judge.ts';
import type { KeyId, NodePrincipal, Principal, TlsIdentity, TlsMaterial } from '../../shared/trust/types.ts';
import type { Authority } from './authority.ts';
import { LOOK_MS, RENEW_AT } from './constants.ts';
import { type KeyPair, makeHubPair } from './issue.ts';

/** What is known of keys, besides what certificates say. */
export interface KeyBook {
  readonly revoked: ReadonlySet<KeyId>;
  /** Revoked, and yet good enough to renew: of a node that was moved and has not used its next certificate. */
  readonly renewable: ReadonlySet<KeyId>;
  /** Told of each good certificate that a node has shown. */
  seen(principal: NodePrincipal): void;
  onChange(listener: () => void): () => void;
}

export interface HubIdentityInit {
  readonly lifetimeMs: number;
  /** How long past its end a certificate may still be renewed. */
  readonly graceMs: number;
  /** Names and addresses that the hub is called by, for programs that compare them. */
  readonly hosts: readonly string[];
}

/**
 * What the hub shows of itself, and whom it believes. Its key is made at each start and is never on disk; its
 * certificate carries its root behind it, so that a node with a join token can tell that this is the hub.
 */
export class HubIdentity implements TlsIdentity, Startable {
  readonly name = 'hub identity';
  readonly #c: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly authority: Authority;
    readonly keys: KeyBook;
  };
  readonly #init: HubIdentityInit;
  readonly #listeners = new Set<() => void>();
  readonly #stops: (() => void)[] = [];
  #own: { readonly pair: KeyPair; readonly root: KeyId; readonly renewAt: number } | undefined;
  #renewal: Promise<void> | undefined;

  constructor(
    components: {
      readonly clock: Clock;
      readonly log: Logger;
      readonly authority: Authority;
      readonly keys: KeyBook;
    },
    init: HubIdentityInit,
  ) {
    this.#c = components;
    this.#init = init;
  }

  async start(): Promise<void> {
    const { authority, clock, keys } = this.#c;
    await this.#make();
    this.#stops.push(
      authority.onChange(() => this.#onAuthority()),
      keys.onChange(() => this.#tell()),
      every(clock, LOOK_MS, () => this.look()),
    );
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop();
    await this.#renewal;
  }

  current(): TlsMaterial {
    if (this.#own === undefined) throw new TidepoolError('INTERNAL', 'the hub has no certificate yet');
    const ca = this.#c.authority
      .roots()
      .map(({ pem }) => pem)
      .join('');
    return { ...this.#own.pair, ca };
  }

  judge(certificate: Uint8Array): Principal {
    const { authority, clock, keys } = this.#c;
    const principal = judge(certificate, {
      roots: authority.roots(),
      revoked: keys.revoked,
      now: clock.now(),
      graceMs: 0,
    });
    if (principal.kind === 'node') keys.seen(principal);
    return principal;
  }

  revoked(): ReadonlySet<KeyId> {
    return this.#c.keys.revoked;
  }

  /** Whose certificate it is, where only a renewal is asked for. @throws TidepoolError CERTIFICATE_REFUSED */
  judgeForRenewal(certificate: Uint8Array): Principal {
    const { authority, clock, keys } = this.#c;
    const { renewable } = keys;
    const revoked = renewable.size === 0 ? keys.revoked : without(keys.revoked, renewable);
    return judge(certificate, {
      roots: authority.roots(),
      revoked,
      now: clock.now(),
      graceMs: this.#init.graceMs,
    });
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Renews the hub's own certificate when it is time. */
  look(): void {
    const { authority, clock, log } = this.#c;
    if (this.#renewal !== undefined || this.#own === undefined) return;
    if (clock.now() < this.#own.renewAt && this.#own.root === authority.hubIssuer.keyId) return;
    this.#renewal = this.#make()
      .then(() => this.#tell())
      .catch((error: unknown) => log.error({ err: error }, "the hub's own certificate could not be renewed"))
      .finally(() => {
        this.#renewal = undefined;
      });
  }

  /** Resolves when a renewal that is under way has ended. */
  async settled(): Promise<void> {
    await this.#renewal;
  }

  #onAuthority(): void {
    this.look();
    this.#tell();
  }

  async #make(): Promise<void> {
    const { authority, clock } = this.#c;
    const { hosts, lifetimeMs } = this.#init;
    const root = authority.hubIssuer;
    const now = clock.now();
    const life = Math.min(lifetimeMs, root.notAfter - now);
    const pair = await makeHubPair(root, { now, lifetimeMs: life }, hosts);
    const { notAfter } = readCertificate(pair.cert);
    this.#own = { pair, root: root.keyId, renewAt: now + (notAfter - now) * RENEW_AT };
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function without<T>(set: ReadonlySet<T>, taken: ReadonlySet<T>): ReadonlySet<T> {
  return new Set([...set].filter((each) => !taken.has(each)));
}
