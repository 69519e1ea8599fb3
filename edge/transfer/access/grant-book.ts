import { createHash, createHmac, randomBytes, scrypt } from 'node:crypto';
import type { Clock } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import { Slots } from '../../../shared/flow/queue.ts';
import { Recent } from '../../../shared/flow/recent.ts';
import { SingleFlight } from '../../../shared/flow/single-flight.ts';
import type { Logger } from '../../../shared/log.ts';
import type { GrantRecord, GrantTable, RepositoryName } from '../../index/types.ts';
import type { Credentials } from '../../origin/types.ts';
import type { Members } from '../../peers/members.ts';
import type { PeerClient } from '../../peers/types.ts';
import { askAll } from '../ask-all.ts';
import { ASK_WAIT_MS } from '../constants.ts';
import { FRESH_ENTRIES, GRANT_LIFE_MS, GRANT_RENEW_MS, MAX_SCRYPTS_WAITING, SCRYPT } from './constants.ts';

interface GrantBookComponents {
  readonly table: GrantTable;
  readonly client: Pick<PeerClient, 'grants'>;
  readonly members: Pick<Members, 'self' | 'pool' | 'live' | 'suspect'>;
  readonly clock: Clock;
  readonly log: Logger;
}

const ID_BYTES = 32;

/**
 * That somebody's credentials were good for a repository, kept so that whoever reads it learns nothing: only an id, which is
 * the scrypt of the password, salted with pool, repository and user. All members come to the same id from the same
 * credentials, so they can tell each other of it, and one scrypt tells whether it is known.
 */
export class GrantBook {
  readonly #c: GrantBookComponents;
  /** Credentials are told apart by a hash that means nothing outside this process. */
  readonly #key = randomBytes(32);
  readonly #ids: Recent<string>;
  readonly #flights = new SingleFlight<string, string>();
  readonly #slots = new Slots(1, MAX_SCRYPTS_WAITING);
  readonly #closing = new AbortController();
  readonly #background = new Set<Promise<void>>();
  /** Hashes made so far. */
  scrypts = 0;

  constructor(components: GrantBookComponents) {
    this.#c = components;
    this.#ids = new Recent(components.clock, FRESH_ENTRIES);
  }

  /** Waits for what is being written down; nothing is after that. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the agent stops'));
    await Promise.allSettled(this.#background);
  }

  /** A name for credentials at a repository, cheap, and good in this process only. */
  account({ registry, repository }: RepositoryName, credentials: Credentials): string {
    const { username, password } = credentials;
    return createHmac('sha256', this.#key)
      .update(JSON.stringify([registry, repository, username, password]))
      .digest('base64url');
  }

  /** @throws TidepoolError OVERLOADED when too many others wait for theirs, or the signal's reason */
  async id(name: RepositoryName, credentials: Credentials, signal?: AbortSignal): Promise<string> {
    const account = this.account(name, credentials);
    const known = this.#ids.get(account);
    if (known !== undefined) return known;
    const id = await this.#flights.run(
      account,
      async (inner) => {
        const release = await this.#slots.acquire({ signal: inner });
        try {
          return await this.#hash(name, credentials);
        } finally {
          release();
        }
      },
      signal,
    );
    this.#ids.set(account, id, GRANT_LIFE_MS);
    return id;
  }

  /** When the grant was given, unless that is too long ago. */
  grantedAt(id: string): number | undefined {
    const grantedAt = this.#c.table.get(id)?.grantedAt;
    if (grantedAt === undefined || grantedAt <= this.#c.clock.now() - GRANT_LIFE_MS) return undefined;
    return grantedAt;
  }

  /** The registry has just taken these credentials: written down and told, in the background. */
  remember(name: RepositoryName, credentials: Credentials): void {
    this.#later(async () => {
      const id = await this.id(name, credentials, this.#closing.signal);
      const now = this.#c.clock.now();
      const before = this.grantedAt(id);
      if (before !== undefined && before > now - GRANT_RENEW_MS && before <= now) return;
      this.#c.table.expire(now - GRANT_LIFE_MS);
      this.#c.table.put({ id, grantedAt: now, toldBy: this.#c.members.self });
      await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, this.#closing.signal, {
        ask: (member, signal) => this.#c.client.grants(member, [{ id, grantedAt: now }], signal),
        enough: () => false,
      });
    });
  }

  /** The registry does not take these credentials any more. */
  forget(name: RepositoryName, credentials: Credentials): void {
    this.#later(async () => this.#c.table.delete(await this.id(name, credentials, this.#closing.signal)));
  }

  /** A neighbour's word: it holds all that the pool holds, so what it could let somebody have it could give itself. */
  told(node: string, grants: readonly GrantRecord[]): void {
    const now = this.#c.clock.now();
    for (const { id, grantedAt } of grants) {
      if (grantedAt <= now - GRANT_LIFE_MS) continue;
      this.#c.table.put({ id, grantedAt: Math.min(grantedAt, now), toldBy: node });
    }
  }

  #later(act: () => Promise<void>): void {
    if (this.#closing.signal.aborted || this.#background.size >= MAX_SCRYPTS_WAITING) return;
    const done: Promise<void> = act()
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        this.#c.log.warn({ why: describeError(error) }, 'a grant could not be written down');
      })
      .finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  #hash({ registry, repository }: RepositoryName, credentials: Credentials): Promise<string> {
    const { username, password } = credentials;
    const salt = createHash('sha256')
      .update(JSON.stringify(['tidepool grant', this.#c.members.pool, registry, repository, username]))
      .digest();
    this.scrypts++;
    return new Promise((resolve, reject) => {
      scrypt(password, salt, ID_BYTES, SCRYPT, (error, key) => {
        if (error === null) resolve(key.toString('base64url'));
        else reject(error);
      });
    });
  }
}
