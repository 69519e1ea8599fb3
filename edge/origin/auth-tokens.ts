import { createHmac, randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import { parseTokenAnswer } from '../../shared/registry/token-answer.ts';
import { answerError, basicHeader, refusedAs } from './answers.ts';
import { MAX_TOKEN_ANSWER_BYTES, MAX_TOKENS, TOKEN_SLACK_MS } from './constants.ts';
import type { Domain } from './domain.ts';
import { follow } from './follow.ts';
import { checkPlain } from './manifest-answer.ts';
import { mayHaveAccounts } from './realm.ts';
import type { Credentials } from './types.ts';

/** What a Bearer challenge asks for, and who asks. */
export interface TokenQuery {
  readonly realm: URL;
  readonly service: string | undefined;
  /** One or several, blanks between them. */
  readonly scope: string;
  readonly credentials: Credentials | undefined;
}

export interface Token {
  readonly value: string;
  /** To forget it by. */
  readonly key: string;
  /** From the cache: it may have been revoked since. */
  readonly cached: boolean;
}

/** Tokens of one registry's realms: cached by realm, service, scope and account, fetched once however many ask. */
export class TokenCache {
  readonly #components: { readonly clock: Clock; readonly random: () => number };
  readonly #domain: Domain;
  readonly #tokens: Recent<string>;
  readonly #flights = new SingleFlight<string, string>();
  /** Accounts are told apart by a hash that means nothing outside this process. */
  readonly #salt = randomBytes(16);

  constructor(components: { readonly clock: Clock; readonly random: () => number }, domain: Domain) {
    this.#components = components;
    this.#domain = domain;
    this.#tokens = new Recent(components.clock, MAX_TOKENS);
  }

  /** @throws TidepoolError UNAUTHORIZED, DENIED, ORIGIN_ERROR, ORIGIN_UNREACHABLE, or the signal's reason */
  async get(query: TokenQuery, signal?: AbortSignal): Promise<Token> {
    const key = [query.realm.href, query.service ?? '', query.scope, this.identity(query.credentials)].join(
      '\n',
    );
    const known = this.#tokens.get(key);
    if (known !== undefined) return { value: known, key, cached: true };
    const value = await this.#flights.run(
      key,
      (flightSignal) => this.#fetch(key, query, flightSignal),
      signal,
    );
    return { value, key, cached: false };
  }

  /** Drops a token that was refused, unless a newer one has taken its place. */
  forget(token: Token): void {
    if (this.#tokens.get(token.key) === token.value) this.#tokens.delete(token.key);
  }

  /** A name for an account that gives nothing of it away. */
  identity(credentials: Credentials | undefined): string {
    if (credentials === undefined) return 'anonymous';
    const { username, password } = credentials;
    return createHmac('sha256', this.#salt)
      .update(`${username.length}:${username}${password}`)
      .digest('base64url');
  }

  async #fetch(key: string, query: TokenQuery, signal: AbortSignal): Promise<string> {
    const url = new URL(query.realm);
    if (query.credentials !== undefined && !mayHaveAccounts(url, this.#domain)) throw this.#foreign(url);
    if (query.service !== undefined) url.searchParams.set('service', query.service);
    for (const scope of query.scope.split(' ')) if (scope !== '') url.searchParams.append('scope', scope);
    const answer = await follow(this.#domain, this.#components, {
      url,
      signal,
      method: 'GET',
      lane: 'control',
      verified: false,
      headers: { Accept: 'application/json', 'Accept-Encoding': 'identity' },
      authorization: query.credentials === undefined ? undefined : basicHeader(query.credentials),
    });
    const where = `the token service ${url.origin} of registry ${this.#domain.registry}`;
    if (answer.status === 401 || (answer.status === 403 && query.credentials === undefined)) {
      answer.body.cancel();
      throw refusedAs(where, query.credentials);
    }
    if (answer.status !== 200) throw await answerError(answer, where, 'NOT_FOUND');
    checkPlain(answer, where);
    const body = await answer.body.readAll(MAX_TOKEN_ANSWER_BYTES);
    const token = body === undefined ? undefined : parseTokenAnswer(body.toString('utf8'));
    if (token === undefined) {
      const what = body === undefined ? `more than ${MAX_TOKEN_ANSWER_BYTES} bytes` : 'no token';
      throw new TidepoolError('ORIGIN_ERROR', `${where} sent ${what}`);
    }
    const slackMs = Math.min(TOKEN_SLACK_MS, token.lifeMs / 5);
    this.#tokens.set(key, token.value, token.lifeMs - slackMs);
    return token.value;
  }

  #foreign(realm: URL): TidepoolError {
    const { registry } = this.#domain;
    return new TidepoolError(
      'ORIGIN_ERROR',
      `registry ${registry} asks for its accounts at ${realm.host}, which is no host of its own: none is sent there; where that is right, name it in the settings: registries: {${JSON.stringify(registry)}: {url: ${this.#domain.base.href}, realms: [${JSON.stringify(realm.host)}]}}`,
      { details: { host: realm.host } },
    );
  }
}
