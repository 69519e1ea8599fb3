import { randomBytes } from 'node:crypto';
import type { Clock } from '../../../shared/clock.ts';
import type { AuthInit } from './options.ts';

interface Issued {
  readonly account: string | undefined;
  readonly scopes: readonly string[];
  readonly expiresAt: number;
}

export type Verdict =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'denied' }
  | { readonly kind: 'challenge'; readonly header: string };

/** Issues and checks the tokens of a sample registry; also checks Basic. */
export class TokenOffice {
  readonly #clock: Clock;
  readonly #tokens = new Map<string, Issued>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Makes every token given out so far worthless. */
  revokeAll(): void {
    this.#tokens.clear();
  }

  /** The body for the token endpoint; undefined: 401. */
  issue(auth: AuthInit, authorization: string | undefined, query: URLSearchParams): object | undefined {
    const known = isAccount(auth, authorization);
    if (authorization !== undefined && !known) return undefined;
    const open = query.getAll('scope').filter((scope) => isOpen(auth, scope));
    const nobody = !known && auth.anonymousPull !== true;
    if (nobody && auth.anonymousToken !== 'empty' && open.length === 0) return undefined;
    const scopes = nobody ? open : query.getAll('scope');
    const token = randomBytes(24).toString('base64url');
    const expiresIn = auth.expiresIn ?? 60;
    this.#tokens.set(token, {
      account: known ? auth.username : undefined,
      scopes,
      expiresAt: this.#clock.mono() + expiresIn * 1000,
    });
    const fields = auth.tokenField === undefined ? ['token', 'access_token'] : [auth.tokenField];
    return { ...Object.fromEntries(fields.map((field) => [field, token])), expires_in: expiresIn };
  }

  check(
    auth: AuthInit,
    authorization: string | undefined,
    repository: string | undefined,
    realm: string,
  ): Verdict {
    if (auth.kind === 'basic') {
      if (!isAccount(auth, authorization) && !(auth.anonymousPull === true && authorization === undefined)) {
        return { kind: 'challenge', header: 'Basic realm="sample registry"' };
      }
    } else {
      const scope = repository === undefined ? undefined : `repository:${repository}:pull`;
      const error = this.#tokenError(authorization, scope);
      if (error !== undefined) {
        const parts = [`realm="${auth.realm ?? realm}"`, 'service="sample-registry"'];
        if (scope !== undefined) parts.push(`scope="${scope}"`);
        if (error !== '') parts.push(`error="${error}"`);
        return { kind: 'challenge', header: `Bearer ${parts.join(',')}` };
      }
    }
    return repository !== undefined && auth.denied?.includes(repository) === true
      ? { kind: 'denied' }
      : { kind: 'allowed' };
  }

  #tokenError(authorization: string | undefined, scope: string | undefined): string | undefined {
    if (authorization === undefined) return '';
    const token = this.#tokens.get(/^Bearer (.+)$/.exec(authorization)?.[1] ?? '');
    if (token === undefined || token.expiresAt <= this.#clock.mono()) return 'invalid_token';
    return scope !== undefined && !token.scopes.includes(scope) ? 'insufficient_scope' : undefined;
  }
}

function isOpen(auth: AuthInit, scope: string): boolean {
  return auth.open?.some((repository) => scope === `repository:${repository}:pull`) === true;
}

function isAccount(auth: AuthInit, authorization: string | undefined): boolean {
  const encoded = /^Basic (.+)$/.exec(authorization ?? '')?.[1];
  return (
    encoded !== undefined && Buffer.from(encoded, 'base64').toString() === `${auth.username}:${auth.password}`
  );
}
