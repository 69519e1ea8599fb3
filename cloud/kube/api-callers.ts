import { createHash } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import type { Role } from '../../shared/wire/api.ts';
import type { OutsideTokens } from '../trust/access.ts';
import type { KubeApi } from './kube-client.ts';
import { at } from './objects.ts';
import { type KubeUser, review, userOfToken } from './token-user.ts';

/** What tokens for this API are made for: `kubectl create token NAME --audience tidepool-hub-api`. */
export const API_AUDIENCE = 'tidepool-hub-api';
/**
 * Roles as RBAC has them: verbs on the resource `hub` of the group `tidepool.dev`, which exists for nothing else.
 * `rules: [{apiGroups: [tidepool.dev], resources: [hub], verbs: [get, create, delete]}]` is an admin.
 */
const VERBS: Readonly<Record<Role, string>> = { view: 'get', operate: 'create', admin: 'delete' };
const GROUP = 'tidepool.dev';
const RESOURCE = 'hub';

/** How long an answer holds: who loses a right loses it this soon. */
const GRANTED_MS = 10_000;
const REFUSED_MS = 2_000;
const MAX_KNOWN = 2_000;
/** Questions under way; more of them wait for nobody. */
const MAX_ASKING = 64;

type Verdict = Awaited<ReturnType<OutsideTokens['identify']>>;

/** The cluster's tokens at the hub's API: it says whose a token is, and its RBAC what that allows. */
export class KubeApiCallers implements OutsideTokens {
  readonly #clock: Clock;
  readonly #client: Pick<KubeApi, 'json'>;
  readonly #known = new Map<string, { readonly verdict: Verdict; readonly until: number }>();
  readonly #asking = new SingleFlight<string, Verdict>();

  constructor(components: { readonly clock: Clock; readonly client: Pick<KubeApi, 'json'> }) {
    this.#clock = components.clock;
    this.#client = components.client;
  }

  /** @throws KubeError; TidepoolError OVERLOADED */
  async identify(token: string, role: Role, signal?: AbortSignal): Promise<Verdict> {
    // Tokens themselves are not kept.
    const key = `${createHash('sha256').update(token).digest('base64url')} ${role}`;
    const known = this.#known.get(key);
    if (known !== undefined && this.#clock.mono() < known.until) return known.verdict;
    if (this.#asking.size >= MAX_ASKING) {
      throw new TidepoolError(
        'OVERLOADED',
        'too many tokens are being asked about; try again in some seconds',
      );
    }
    return await this.#asking.run(
      key,
      async (inner) => {
        const verdict = await this.#ask(token, role, inner);
        this.#keep(key, verdict);
        return verdict;
      },
      signal,
    );
  }

  async #ask(token: string, role: Role, signal: AbortSignal): Promise<Verdict> {
    const user = await userOfToken(this.#client, token, API_AUDIENCE, signal);
    if (user === undefined) return undefined;
    return { name: user.name, allowed: await this.#mayDo(user, role, signal) };
  }

  async #mayDo(user: KubeUser, role: Role, signal: AbortSignal): Promise<boolean> {
    const status = await review(this.#client, {
      group: 'authorization.k8s.io',
      kind: 'SubjectAccessReview',
      spec: {
        user: user.name,
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        resourceAttributes: { group: GROUP, resource: RESOURCE, verb: VERBS[role] },
      },
      signal,
    });
    return at(status, 'allowed') === true && at(status, 'denied') !== true;
  }

  #keep(key: string, verdict: Verdict): void {
    this.#known.delete(key);
    const ms = verdict?.allowed === true ? GRANTED_MS : REFUSED_MS;
    this.#known.set(key, { verdict, until: this.#clock.mono() + ms });
    if (this.#known.size <= MAX_KNOWN) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      return;
    }
  }
}
