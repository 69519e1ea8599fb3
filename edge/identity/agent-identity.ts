import { type Clock, systemClock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { readRoots } from '../../shared/trust/certificate.ts';
import { openMessage } from '../../shared/trust/envelope.ts';
import type { KeyId, Principal, TlsIdentity, TlsMaterial } from '../../shared/trust/types.ts';
import { decode } from '../../shared/wire/messages/codec.ts';
import { trustMessage } from '../../shared/wire/messages/trust.ts';
import { topics } from '../../shared/wire/topics.ts';
import type { EnrolmentCredential } from '../settings.ts';
import { CertificateKeeper } from './certificate-keeper.ts';
import { Enrolment } from './enrolment.ts';
import { HubClient } from './hub-client.ts';
import { IdentityBook } from './identity-book.ts';
import type { FileOps } from './private-file.ts';
import type { IdentityStatus } from './types.ts';

export interface AgentIdentityComponents {
  readonly clock?: Clock;
  readonly log: Logger;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  /** The hub refuses to enrol this node, for good. */
  readonly onRefused?: (error: TidepoolError) => void;
  readonly files?: FileOps;
}

export interface AgentIdentityInit {
  readonly node: NodeName;
  /** Of its own; made when it is not there. */
  readonly directory: string;
  /** How long past its end a certificate counts among neighbours, ms. */
  readonly graceMs: number;
  /** Base URL of the hub's API; none: this node can neither be enrolled nor renewed. */
  readonly enrolUrl?: string | undefined;
  readonly credential?: EnrolmentCredential | undefined;
  /** Takes the place of a node of this name that is enrolled already. */
  readonly replace?: boolean;
  readonly platform?: string | undefined;
  readonly localAddress?: string | undefined;
}

/** What the hub tells a pool of whom to trust, as it was read from a signed message. */
export interface TrustTold {
  readonly epoch: number;
  readonly version: number;
  /** PEM. */
  readonly roots: string | readonly string[];
  readonly revoked: readonly KeyId[];
}

const NONE: ReadonlySet<KeyId> = new Set();

/**
 * Who this node is, and whom it believes. Without a certificate yet it shows none and believes nobody, so that
 * everything which speaks TLS by it is shut rather than open.
 */
export class AgentIdentity implements TlsIdentity, Startable {
  readonly name = 'identity';
  readonly #book: IdentityBook;
  readonly #enrolment: Enrolment | undefined;
  readonly #keeper: CertificateKeeper;

  /** @throws TidepoolError INVALID_CONFIG when what is kept is damaged, or another node's */
  constructor(components: AgentIdentityComponents, init: AgentIdentityInit) {
    const { clock = systemClock, log, random = Math.random, files, onRefused = () => undefined } = components;
    const { graceMs, credential, replace = false, platform, localAddress } = init;
    const book = new IdentityBook({ clock, log, files }, init);
    this.#book = book;
    this.#enrolment =
      init.enrolUrl === undefined
        ? undefined
        : new Enrolment(
            { book, client: new HubClient({ clock }, { url: init.enrolUrl, localAddress }) },
            { graceMs, credential, replace, platform },
          );
    this.#keeper = new CertificateKeeper(
      { book, enrolment: this.#enrolment, clock, log, random, onRefused },
      { credential: credential?.kind },
    );
  }

  get enrolled(): boolean {
    return this.#book.own !== undefined;
  }

  /** As the certificate says; undefined before there is one. */
  get pool(): PoolName | undefined {
    return this.#book.own?.pool;
  }

  get keyId(): KeyId | undefined {
    return this.#book.own?.keyId;
  }

  /** Goes after a certificate, or its renewal, by itself from now on. */
  start(): Promise<void> {
    this.#keeper.start();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    await this.#keeper.stop();
    this.#book.keepTime();
  }

  current(): TlsMaterial {
    return this.#book.material;
  }

  judge(certificate: Uint8Array): Principal {
    return this.#book.judge(certificate);
  }

  revoked(): ReadonlySet<KeyId> {
    return this.#book.trust?.revoked ?? NONE;
  }

  onChange(listener: () => void): () => void {
    return this.#book.onChange(listener);
  }

  /** Once, now. @throws TidepoolError as {@link Enrolment.enrol}; INVALID_CONFIG without a hub */
  async enrol(signal: AbortSignal): Promise<void> {
    if (this.#enrolment === undefined) {
      throw new TidepoolError(
        'INVALID_CONFIG',
        'where the hub is has to be known: give --enroll-url or --hub',
      );
    }
    await this.#enrolment.enrol(signal);
  }

  /** The hub wants this node to have a new certificate: it moves to another pool, or an authority is replaced. */
  renewSoon(why: string): void {
    this.#keeper.renewSoon(why);
  }

  /** Wall clock, ms, never earlier than what signed things have proved. */
  trustedNow(): number {
    return this.#book.time.now();
  }

  /** Told of each node whose key was revoked and that has shown its certificate all the same. */
  set onRevoked(listener: (node: string) => void) {
    this.#book.onRevoked = listener;
  }

  /** Something that the hub has signed says when that was. */
  learnTime(at: number): void {
    this.#book.learnTime(at);
  }

  /** Grows with each start of this node. */
  nextBoot(): number {
    return this.#book.nextBoot();
  }

  /**
   * What the hub has told the pool, its signature checked by the caller. An older version adds its revocations and
   * nothing else.
   * @param signed the message as it came, for neighbours that ask
   * @returns whether that was news
   * @throws TidepoolError INVALID_CONFIG, INVALID_ARGUMENT for roots that are none
   */
  setTrust({ epoch, version, roots, revoked }: TrustTold, signed?: Uint8Array): boolean {
    const pem = typeof roots === 'string' ? roots : roots.join('\n');
    const isNews = this.#book.setTrust({
      epoch,
      version,
      roots: readRoots(pem),
      revoked,
      ...(signed === undefined ? {} : { signed }),
    });
    // An authority has gone that this node's own certificate stands on.
    if (isNews && !this.#book.isGood) this.renewSoon('neighbours would not take the one at hand');
    return isNews;
  }

  /**
   * The same from a neighbour, who has it from the hub: believed as far as the hub has signed it for this pool.
   * @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG, INVALID_ARGUMENT
   */
  takeSigned(signed: Uint8Array): boolean {
    const { pool } = this;
    if (pool === undefined) return false;
    const body = openMessage(topics.trust(pool), signed, (certificate) => this.judge(certificate));
    return this.setTrust(decode(trustMessage, body, 'trust'), signed);
  }

  get trustVersion(): number | undefined {
    return this.#book.trust?.version;
  }

  /** The hub's last message of whom to trust, as it was signed. */
  signedTrust(): Uint8Array | undefined {
    return this.#book.trust?.signed;
  }

  status(): IdentityStatus {
    const { own, trust, time, lapsedAdmitted } = this.#book;
    return {
      state: this.#state(),
      pool: own?.pool ?? null,
      keyId: own?.keyId ?? null,
      notAfter: own?.notAfter ?? null,
      renewAt: this.#keeper.renewAt ?? null,
      lastError: this.#keeper.lastError,
      roots: trust?.roots.map(({ keyId }) => keyId) ?? [],
      revoked: trust?.revoked.size ?? 0,
      trustVersion: trust?.version ?? null,
      lapsedAdmitted,
      clockAheadMs: time.aheadMs,
    };
  }

  #state(): IdentityStatus['state'] {
    const { own, trust, time, isGood } = this.#book;
    if (own === undefined) return 'waiting';
    if (trust?.revoked.has(own.keyId) === true) return 'revoked';
    const isOver = time.now() > own.notAfter;
    if (isGood) return isOver ? 'lapsed' : 'good';
    return isOver ? 'ended' : 'untrusted';
  }
}
