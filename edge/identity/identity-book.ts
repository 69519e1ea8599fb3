import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { type ReadCertificate, readCertificate, refused } from '../../shared/trust/certificate.ts';
import { judge } from '../../shared/trust/judge.ts';
import { KnownCertificates } from '../../shared/trust/known-certificates.ts';
import type { KeyId, Principal, Root, TlsMaterial } from '../../shared/trust/types.ts';
import { COMPLAIN_MS, KEEP_TIME_MS, MAX_REVOKED, MAX_ROOTS } from './constants.ts';
import { IdentityFiles, type NodePair, type Trust } from './identity-files.ts';
import type { FileOps } from './private-file.ts';
import { makeRequest, requestFor } from './request.ts';
import { TrustedTime } from './trusted-time.ts';

interface BookComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly files?: FileOps | undefined;
}

interface BookInit {
  readonly node: NodeName;
  readonly directory: string;
  readonly graceMs: number;
}

/** This node's own certificate, read. */
export interface Own extends ReadCertificate {
  readonly pool: PoolName;
}

/** What authorities, and the hub for them, have said besides certificates. */
export interface TrustNews {
  readonly epoch?: number;
  readonly version: number;
  readonly roots: readonly Root[];
  readonly revoked: Iterable<KeyId>;
  readonly signed?: Uint8Array;
}

const NOBODY: TlsMaterial = Object.freeze({ key: '', cert: '', ca: '' });

/** Key, certificate, roots, revocations and time of this node: on disk before they count. */
export class IdentityBook {
  readonly node: NodeName;
  readonly time: TrustedTime;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #graceMs: number;
  readonly #files: IdentityFiles;
  readonly #listeners = new Set<() => void>();
  readonly #known = new KnownCertificates();
  /** Told of each node that was let go and has shown its certificate all the same. */
  onRevoked: (node: string) => void = () => undefined;
  #own: Own | undefined;
  #pair: NodePair | undefined;
  #trust: Trust | undefined;
  #material = NOBODY;
  #boots: number;
  #timeKeptAt = Number.NEGATIVE_INFINITY;
  #timeIsNews = false;
  #complainedAt = Number.NEGATIVE_INFINITY;
  #lapsedAdmitted = 0;

  /** @throws TidepoolError INVALID_CONFIG when what is kept is damaged, or another node's */
  constructor(components: BookComponents, init: BookInit) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.node = init.node;
    this.#graceMs = init.graceMs;
    this.#files = new IdentityFiles(init.directory, components.files);
    const { boots, ...kept } = this.#files.time();
    this.#boots = boots;
    this.time = new TrustedTime(components.clock, kept);
    const pair = this.#files.pair();
    const trust = this.#files.trust();
    if (pair === undefined || trust === undefined) return;
    this.#take(pair, trust);
    if (this.#own !== undefined) this.time.proves(this.#own.notBefore);
  }

  get own(): Own | undefined {
    return this.#own;
  }

  get trust(): Trust | undefined {
    return this.#trust;
  }

  /** Without a certificate it shows none, and believes nobody. */
  get material(): TlsMaterial {
    return this.#material;
  }

  /** Times that somebody was let in whose certificate had ended. */
  get lapsedAdmitted(): number {
    return this.#lapsedAdmitted;
  }

  /** Whether neighbours that know what this node knows would take its certificate. */
  get isGood(): boolean {
    if (this.#own === undefined) return false;
    try {
      this.#verdict(this.#own.certificate.raw);
      return true;
    } catch {
      return false;
    }
  }

  /** @throws TidepoolError CERTIFICATE_REFUSED */
  judge(certificate: Uint8Array): Principal {
    const principal = this.#judged(certificate);
    if (principal.lapsed) {
      this.#lapsedAdmitted++;
      this.#complain({ until: new Date(principal.notAfter).toISOString() });
    }
    this.learnTime(this.#known.read(certificate).notBefore);
    return principal;
  }

  #judged(certificate: Uint8Array): Principal {
    try {
      return this.#verdict(certificate);
    } catch (error) {
      if (error instanceof TidepoolError && typeof error.details.revokedNode === 'string') {
        this.onRevoked(error.details.revokedNode);
      }
      throw error;
    }
  }

  /** Something that can be trusted was signed at that time. */
  learnTime(at: number): void {
    if (this.time.proves(at)) this.#timeIsNews = true;
    if (this.#timeIsNews && this.#clock.mono() - this.#timeKeptAt >= KEEP_TIME_MS) this.keepTime();
  }

  keepTime(): void {
    if (!this.#timeIsNews) return;
    this.#timeKeptAt = this.#clock.mono();
    this.#timeIsNews = false;
    const { floor, aheadMs } = this.time;
    this.#keep(() => this.#files.setTime({ floor, aheadMs, boots: this.#boots }));
  }

  /** Grows with each start of this node, as far as its disk remembers. */
  nextBoot(): number {
    // Where the disk has forgotten, the time stands in: it grows as well.
    this.#boots = Math.max(this.#boots + 1, Math.floor(this.time.now() / 1000));
    this.#timeIsNews = true;
    this.keepTime();
    return this.#boots;
  }

  /**
   * A key for the next certificate, and a request for it. It stays the same until it has its certificate: a hub that has
   * answered, and was not heard, answers the same key again.
   */
  async nextKey(): Promise<{ readonly key: string; readonly request: string; readonly fresh: boolean }> {
    const kept = this.#files.next();
    if (kept !== undefined) return { key: kept, request: await requestFor(kept, this.node), fresh: false };
    const made = await makeRequest(this.node);
    this.#files.setNext(made.key);
    return { ...made, fresh: true };
  }

  /** The hub does not want the key of {@link nextKey}. */
  dropNextKey(): void {
    this.#keep(() => this.#files.dropNext());
  }

  /** A certificate and what came with it. What it is worth the caller has seen to. */
  install(pair: NodePair, news: TrustNews): void {
    const trust = merge(this.#trust, news);
    // In this order: roots without a certificate are a node that is not enrolled yet, and asks again.
    this.#files.setTrust(trust);
    this.#files.setPair(pair);
    this.#keep(() => this.#files.dropNext());
    this.#take(pair, trust);
    this.#timeIsNews = true;
    this.keepTime();
    this.#tell();
  }

  /** @returns whether anything has changed @throws TidepoolError INVALID_ARGUMENT for no roots, or too many */
  setTrust(news: TrustNews): boolean {
    const before = this.#trust;
    const pair = this.#pair;
    if (before === undefined || pair === undefined) return false;
    const after = merge(before, news);
    if (
      after.version === before.version &&
      after.revoked.size === before.revoked.size &&
      (after.signed === before.signed || before.signed !== undefined)
    ) {
      return false;
    }
    // A disk that is full must not let in whom the hub has shut out.
    this.#keep(() => this.#files.setTrust(after));
    this.#take(pair, after);
    this.#tell();
    return true;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #verdict(certificate: Uint8Array): Principal {
    const trust = this.#trust;
    if (trust === undefined) throw refused('this node is not enrolled yet, and knows nobody');
    const { roots, revoked } = trust;
    const view = { roots, revoked, now: this.time.now(), graceMs: this.#graceMs };
    return judge(certificate, view, this.#known);
  }

  #take(pair: NodePair, trust: Trust): void {
    const read = readCertificate(pair.cert);
    const { subject } = read;
    if (subject.kind !== 'node' || subject.node !== this.node) {
      const whose = subject.kind === 'node' ? `node ${subject.node}` : 'a hub';
      throw new TidepoolError(
        'INVALID_CONFIG',
        `this data directory is enrolled as ${whose}, and this is node ${this.node}: start it with --node ${subject.kind === 'node' ? subject.node : ''}, or take its identity directory away and enrol it again`,
      );
    }
    this.#own = { ...read, pool: subject.pool };
    this.#pair = pair;
    this.#trust = trust;
    this.#material = Object.freeze({
      key: pair.key,
      cert: read.certificate.toString(),
      ca: trust.roots.map(({ pem }) => pem).join(''),
    });
  }

  #keep(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log.error({ err: error }, 'could not keep what this node knows of whom to trust');
    }
  }

  #complain(facts: Record<string, unknown>): void {
    const now = this.#clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    this.#log.warn(facts, 'a certificate that has ended was taken, within the grace (trust.grace)');
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (error) {
        this.#log.error({ reason: describeError(error) }, 'a listener of the identity failed');
      }
    }
  }
}

/** Never back in version, and never a revocation less. */
function merge(before: Trust | undefined, news: TrustNews): Trust {
  if (news.roots.length === 0 || news.roots.length > MAX_ROOTS) {
    throw new TidepoolError('INVALID_ARGUMENT', `${news.roots.length} roots: there are 1 to ${MAX_ROOTS}`);
  }
  const revoked = new Set([...(before?.revoked ?? []), ...news.revoked]);
  const isNewer = before === undefined || news.version > before.version;
  const isSame = before?.version === news.version;
  return {
    roots: isNewer ? news.roots : before.roots,
    revoked: revoked.size <= MAX_REVOKED ? revoked : new Set([...revoked].slice(-MAX_REVOKED)),
    epoch: isNewer ? Math.max(before?.epoch ?? 0, news.epoch ?? 0) : before.epoch,
    version: isNewer ? news.version : before.version,
    signed: (isNewer || isSame ? news.signed : undefined) ?? before?.signed,
  };
}
