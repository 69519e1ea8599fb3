import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import { type Challenge, parseChallenges } from '../../shared/registry/challenge.ts';
import { basicHeader, headersOf, refusedAs } from './answers.ts';
import { type Token, TokenCache } from './auth-tokens.ts';
import { CHALLENGE_LIFE_MS, CREDENTIALS_LIFE_MS, MAX_CHALLENGES_KEPT, MAX_CREDENTIALS } from './constants.ts';
import type { Domain } from './domain.ts';
import { discard, type Followed, type FollowInit, follow } from './follow.ts';
import type { Credentials } from './types.ts';

export interface AuthorizedInit extends Omit<FollowInit, 'authorization'> {
  readonly repository: string;
  readonly credentials: Credentials | undefined;
  /**
   * Without credentials, those that worked for this repository a short while ago are used. For content known by digest only: a member must
   * be able to fetch pieces that neighbours with an account ask for, but nobody may learn tags with another's account.
   */
  readonly mayUseRemembered: boolean;
}

/** How a repository wants to be asked. */
type Scheme =
  | { readonly kind: 'basic' }
  | {
      readonly kind: 'bearer';
      readonly realm: URL;
      readonly service: string | undefined;
      readonly scope: string;
    };

/** A header to send, and what it rests on. */
interface Grant {
  readonly header: string;
  readonly token?: Token;
  /** Made for the challenge at hand with nothing from a cache: when it is refused, there is no more to try. */
  readonly final: boolean;
}

/** First request, renewal of a cached token, and the fall from remembered credentials to none: never more. */
const MAX_ATTEMPTS = 4;
const MAX_SCOPE_CHARS = 2048;

/**
 * Requests to one registry, authorized: anonymous first, then as its challenge asks. Credentials go to the registry itself (Basic) or to
 * the realm that its own challenge names (Bearer), nowhere else.
 */
export class Authorizer {
  readonly #components: { readonly clock: Clock; readonly random: () => number };
  readonly #domain: Domain;
  readonly #tokens: TokenCache;
  readonly #schemes: Recent<Scheme>;
  readonly #remembered: Recent<Credentials>;

  constructor(components: { readonly clock: Clock; readonly random: () => number }, domain: Domain) {
    this.#components = components;
    this.#domain = domain;
    this.#tokens = new TokenCache(components, domain);
    this.#schemes = new Recent(components.clock, MAX_CHALLENGES_KEPT);
    this.#remembered = new Recent(components.clock, MAX_CREDENTIALS);
  }

  /** A name for the account that {@link send} would use; equal names see the same content. */
  identity(init: Pick<AuthorizedInit, 'repository' | 'credentials' | 'mayUseRemembered'>): string {
    return this.#tokens.identity(this.#credentialsFor(init));
  }

  /**
   * The registry's answer; never its 401.
   * @throws TidepoolError UNAUTHORIZED, DENIED (by the token service), ORIGIN_ERROR, ORIGIN_UNREACHABLE, or the signal's reason
   */
  async send(init: AuthorizedInit): Promise<Followed> {
    const credentials = this.#credentialsFor(init);
    try {
      return await this.#sendAs(init, credentials);
    } catch (error) {
      if (
        init.credentials !== undefined ||
        credentials === undefined ||
        !isTidepoolError(error, 'UNAUTHORIZED')
      ) {
        throw error;
      }
      // They worked once and no longer do; the content may still be open to all.
      this.#remembered.delete(init.repository);
      return this.#sendAs(init, undefined);
    }
  }

  #credentialsFor(
    init: Pick<AuthorizedInit, 'repository' | 'credentials' | 'mayUseRemembered'>,
  ): Credentials | undefined {
    return init.credentials ?? (init.mayUseRemembered ? this.#remembered.get(init.repository) : undefined);
  }

  async #sendAs(init: AuthorizedInit, credentials: Credentials | undefined): Promise<Followed> {
    const known = this.#schemes.get(init.repository);
    let grant = known === undefined ? undefined : await this.#grant(known, credentials, false, init.signal);
    for (let attempt = 1; ; attempt++) {
      const answer = await follow(this.#domain, this.#components, { ...init, authorization: grant?.header });
      // Another host's 401 is no challenge of this registry: it gets no credentials.
      if (answer.status !== 401 || answer.elsewhere) {
        if (grant !== undefined && credentials !== undefined && answer.status < 300) {
          this.#remembered.set(init.repository, credentials, CREDENTIALS_LIFE_MS);
        }
        return answer;
      }
      const challenges = parseChallenges(headersOf(answer, 'www-authenticate'));
      await discard(answer);
      if (grant?.token !== undefined) this.#tokens.forget(grant.token);
      const scheme = this.#choose(challenges, init.repository);
      if (grant?.final === true || scheme === undefined || attempt >= MAX_ATTEMPTS)
        throw this.#refused(credentials);
      this.#schemes.set(init.repository, scheme, CHALLENGE_LIFE_MS);
      grant = await this.#grant(scheme, credentials, true, init.signal);
      if (grant === undefined) throw this.#refused(credentials);
    }
  }

  async #grant(
    scheme: Scheme,
    credentials: Credentials | undefined,
    challenged: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Grant | undefined> {
    if (scheme.kind === 'basic') {
      return credentials === undefined ? undefined : { header: basicHeader(credentials), final: challenged };
    }
    const token = await this.#tokens.get({ ...scheme, credentials }, signal);
    return { header: `Bearer ${token.value}`, token, final: challenged && !token.cached };
  }

  /** Bearer before Basic: a token is worth less to whoever steals it. */
  #choose(challenges: readonly Challenge[], repository: string): Scheme | undefined {
    for (const { scheme, params } of challenges) {
      const realm = params.get('realm');
      if (scheme !== 'bearer' || realm === undefined) continue;
      const scope = params.get('scope') ?? `repository:${repository}:pull`;
      return {
        kind: 'bearer',
        realm: this.#realm(realm),
        service: params.get('service'),
        scope: scope.slice(0, MAX_SCOPE_CHARS),
      };
    }
    return challenges.some((challenge) => challenge.scheme === 'basic') ? { kind: 'basic' } : undefined;
  }

  #realm(text: string): URL {
    const refuse = (why: string): TidepoolError =>
      new TidepoolError('ORIGIN_ERROR', `registry ${this.#domain.registry} names a token service ${why}`);
    if (!URL.canParse(text, this.#domain.base.href)) throw refuse('that is no URL');
    const realm = new URL(text, this.#domain.base);
    if (realm.protocol !== 'https:' && realm.protocol !== 'http:')
      throw refuse(`of scheme ${realm.protocol}`);
    if (realm.protocol === 'http:' && this.#domain.base.protocol === 'https:') {
      throw refuse(`over plain http, ${realm.origin}; no account is sent there`);
    }
    if (realm.username !== '' || realm.password !== '') throw refuse('with an account in its URL');
    return realm;
  }

  #refused(credentials: Credentials | undefined): TidepoolError {
    return refusedAs(`registry ${this.#domain.registry}`, credentials);
  }
}
