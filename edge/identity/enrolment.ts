import { constants, createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import {
  keyIdOf,
  type ReadCertificate,
  readCertificate,
  readRoot,
  readRoots,
  refused,
} from '../../shared/trust/certificate.ts';
import { parseJoinToken } from '../../shared/trust/join-token.ts';
import { judge } from '../../shared/trust/judge.ts';
import type { Principal, Root, TrustView } from '../../shared/trust/types.ts';
import type { EnrolmentCredential } from '../settings.ts';
import { MAX_ROOTS } from './constants.ts';
import { type EnrollBody, type HubClient, type Issued, isAnswer } from './hub-client.ts';
import type { IdentityBook } from './identity-book.ts';

interface EnrolmentComponents {
  readonly book: IdentityBook;
  readonly client: HubClient;
}

interface EnrolmentInit {
  readonly graceMs: number;
  readonly credential: EnrolmentCredential | undefined;
  readonly replace: boolean;
  readonly platform: string | undefined;
}

/** What the hub has to show before it is given a credential: one of these authorities. */
type Pin = (chain: readonly Uint8Array[]) => readonly Root[];

/** Gets this node its certificate, and later the next one. Nothing of the hub's is believed before it has been judged. */
export class Enrolment {
  readonly #book: IdentityBook;
  readonly #client: HubClient;
  readonly #init: EnrolmentInit;

  constructor(components: EnrolmentComponents, init: EnrolmentInit) {
    this.#book = components.book;
    this.#client = components.client;
    this.#init = init;
  }

  /**
   * @throws TidepoolError TOKEN_REFUSED, CONFLICT (the name is taken: `--replace`), INVALID_CONFIG (a credential that
   * cannot be read), CERTIFICATE_REFUSED (who answers is not the hub), HUB_UNREACHABLE
   */
  async enrol(signal: AbortSignal): Promise<void> {
    const { credential, replace, platform } = this.#init;
    if (credential === undefined) throw new TidepoolError('NOT_ENROLLED', 'there is nothing to enrol with');
    const { body, pin } = readCredential(credential);
    const { key, request, fresh } = await this.#book.nextKey();
    let pinned: readonly Root[] = [];
    const admit = (chain: readonly Uint8Array[]): void => {
      pinned = pin(chain);
      requireHub(chain, {
        roots: pinned,
        revoked: new Set(),
        now: this.#book.time.now(),
        graceMs: this.#init.graceMs,
      });
    };
    const asked = this.#client.enroll(
      {
        node: this.#book.node,
        request,
        ...body,
        ...(replace ? { replace } : {}),
        ...(platform === undefined ? {} : { platform }),
      },
      { tls: { ca: [] }, admit, signal },
    );
    const issued = await this.#orAnotherKey(asked);
    this.#install(key, issued, rootsOf(issued, pinned), fresh);
  }

  /** @throws TidepoolError as {@link enrol}, and NOT_ENROLLED */
  async renew(signal: AbortSignal): Promise<void> {
    const { own, trust, material } = this.#book;
    if (own === undefined || trust === undefined)
      throw new TidepoolError('NOT_ENROLLED', 'there is no certificate to renew');
    const { key, request, fresh } = await this.#book.nextKey();
    let hub: { readonly der: Uint8Array; readonly principal: Principal } | undefined;
    const view = { roots: trust.roots, revoked: trust.revoked };
    const asked = this.#client.renew(
      { request },
      {
        tls: { ...material, secureOptions: constants.SSL_OP_NO_TICKET },
        // However long ago this clock says that it ended: when the clock is ahead, this is what puts it right.
        admit: (chain) => {
          hub = requireHub(chain, { ...view, now: this.#book.time.now(), graceMs: Number.POSITIVE_INFINITY });
        },
        signal,
      },
    );
    const issued = await this.#orAnotherKey(asked);
    if (hub === undefined) throw refused('the hub has shown none');
    if (hub.principal.lapsed) {
      // No secret was given away yet, and whoever holds an old key of a hub cannot make this: a date that a root, known
      // before, has put under a key made just now.
      const { notBefore } = this.#check(key, issued, trust.roots);
      if (!fresh) throw refused(`the hub's ended at ${new Date(hub.principal.notAfter).toISOString()}`);
      judge(hub.der, { ...view, now: notBefore, graceMs: 0 });
    }
    const isOlder = issued.trustVersion < trust.version;
    this.#install(key, issued, isOlder ? trust.roots : rootsOf(issued, trust.roots), fresh);
  }

  /** A key that the hub has refused is not asked for again: it may be the key that is wrong. */
  async #orAnotherKey(asked: Promise<Issued>): Promise<Issued> {
    try {
      return await asked;
    } catch (error) {
      if (isAnswer(error) && error.status < 500) this.#book.dropNextKey();
      throw error;
    }
  }

  #install(key: string, issued: Issued, roots: readonly Root[], fresh: boolean): void {
    const { notBefore } = this.#check(key, issued, roots);
    if (fresh) this.#book.time.isAbout(notBefore);
    else this.#book.time.proves(notBefore);
    const { certificate: cert, revoked, trustVersion: version } = issued;
    this.#book.install({ key, cert }, { roots, revoked, version });
  }

  /** The certificate is of this key and this node, in the pool that the hub says, and one of the roots has signed it. */
  #check(key: string, issued: Issued, roots: readonly Root[]): ReadCertificate {
    const read = readCertificate(issued.certificate);
    if (keyIdOf(createPublicKey(createPrivateKey(key))) !== read.keyId)
      throw refused('what the hub has issued is for another key');
    const { subject } = read;
    if (subject.kind !== 'node' || subject.node !== this.#book.node || subject.pool !== issued.pool)
      throw refused('what the hub has issued is for somebody else');
    judge(issued.certificate, { roots, revoked: new Set(issued.revoked), now: read.notBefore, graceMs: 0 });
    return read;
  }
}

function requireHub(
  chain: readonly Uint8Array[],
  view: TrustView,
): { readonly der: Uint8Array; readonly principal: Principal } {
  const [der] = chain;
  if (der === undefined) throw refused('the hub has shown none');
  const principal = judge(der, view);
  if (principal.kind !== 'hub') throw refused(`it is ${principal.node}'s, and this is no hub`);
  return { der, principal };
}

/** Of these at least one was known before: an answer cannot put all of them aside at once. */
function rootsOf(issued: Issued, known: readonly Root[]): readonly Root[] {
  const roots = readRoots(issued.roots).slice(0, MAX_ROOTS);
  const ids = new Set(known.map(({ keyId }) => keyId));
  if (!roots.some(({ keyId }) => ids.has(keyId)))
    throw refused('the hub tells of authorities none of which is known here');
  return roots;
}

function readCredential(credential: EnrolmentCredential): {
  readonly body: Pick<EnrollBody, 'token' | 'serviceAccountToken'>;
  readonly pin: Pin;
} {
  if (credential.kind === 'service-account') {
    const roots = readRoots(readText(credential.caFile, '--ca'));
    return { body: { serviceAccountToken: readText(credential.tokenFile, '--sa-token') }, pin: () => roots };
  }
  const token = (
    credential.kind === 'token' ? credential.token : readText(credential.file, '--join-file')
  ).trim();
  const { authority } = parseJoinToken(token);
  return {
    body: { token },
    pin: (chain) => {
      const roots = chain.slice(1).flatMap((der) => {
        try {
          return [readRoot(der)];
        } catch {
          // A certificate between, or none of an authority.
          return [];
        }
      });
      const found = roots.filter(({ keyId }) => keyId === authority);
      if (found.length > 0) return found;
      throw refused(
        'whoever answers does not show the authority that the join token names; it is another hub, or nobody you know: check --hub and --enroll-url',
      );
    },
  };
}

function readText(path: string, flag: string): string {
  try {
    const text = readFileSync(path, 'utf8').trim();
    if (text === '') throw new Error('it is empty');
    return text;
  } catch (error) {
    throw new TidepoolError('INVALID_CONFIG', `${flag} ${quote(path)}: ${describeError(error)}`, {
      cause: error,
    });
  }
}
