/** Who asks the hub for something, and what that allows. */
import type { NodePrincipal } from '../../shared/trust/types.ts';
import { ROLES, type Role } from '../../shared/wire/api.ts';

export type Caller =
  /** The hub runs without identities, so everybody is anybody. */
  | { readonly kind: 'anyone' }
  /** Somebody who has not said who they are, where that is enough. */
  | { readonly kind: 'nobody' }
  | { readonly kind: 'token'; readonly name: string; readonly role: Role }
  /** A user or ServiceAccount that the cluster vouches for; `role` is what was asked about, and granted. */
  | { readonly kind: 'kubernetes'; readonly name: string; readonly role: Role }
  | { readonly kind: 'node'; readonly principal: NodePrincipal }
  /** A registry that has the hook's secret. */
  | { readonly kind: 'hook' };

export type { Role };

/** Each role may do what those before it may. */
export function covers(have: Role, need: Role): boolean {
  return ROLES.indexOf(have) >= ROLES.indexOf(need);
}

/** For logs, the audit log and rate limits: different callers have different names. */
export function callerName(caller: Caller): string {
  switch (caller.kind) {
    case 'token':
    case 'kubernetes':
      return `${caller.kind}:${caller.name}`;
    case 'node':
      return `node:${caller.principal.node}`;
    default:
      return caller.kind;
  }
}

/** Somebody else's bearer tokens: the cluster's. */
export interface OutsideTokens {
  /**
   * Whose token it is, where it is good for the role; `allowed` false where it is somebody's who may not.
   * @returns undefined for a token that nobody knows @throws TidepoolError KUBE_UNREACHABLE, KUBE_ERROR
   */
  identify(
    token: string,
    role: Role,
    signal?: AbortSignal,
  ): Promise<{ readonly name: string; readonly allowed: boolean } | undefined>;
}
