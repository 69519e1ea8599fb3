import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import { type ApiTokenView, ROLES, type Role } from '../../shared/wire/api.ts';
import { JsonFile, replaceFile } from '../data/json-file.ts';

const MAX_TOKENS = 1_000;
const PREFIX = 'tpa1';
const TOKEN = /^tpa1\.([a-z0-9]{12})\.([A-Za-z0-9_-]{43})$/;
const NAME = /^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$/;
/** Of the token in {@link ApiTokensInit.adminFile}. */
export const LOCAL_ADMIN = 'local-admin';

const saved = z.object({
  tokens: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      role: z.enum(ROLES),
      /** Hex sha256 of the secret: that has 256 random bits, so nobody finds it by trying. */
      hash: z.string(),
      createdAt: z.number(),
      expiresAt: z.number().optional(),
    }),
  ),
});
type Saved = z.infer<typeof saved>['tokens'][number];

export interface ApiTokensInit {
  /** Where hashes are kept. */
  readonly file: string;
  /** Where an admin's token lies for commands on the hub's own machine. */
  readonly adminFile: string;
}

/** Bearer tokens of people and programs. The hub knows hashes; who has lost a token makes another. */
export class ApiTokens implements Startable {
  readonly name = 'api tokens';
  readonly #clock: Clock;
  readonly #init: ApiTokensInit;
  readonly #file: JsonFile<z.infer<typeof saved>>;
  #tokens: readonly Saved[] = [];
  #changes: Promise<unknown> = Promise.resolve();

  constructor(components: { readonly clock: Clock }, init: ApiTokensInit) {
    this.#clock = components.clock;
    this.#init = init;
    this.#file = new JsonFile(init.file, saved);
  }

  /** Sees to it that the token for this machine is there and good. @throws TidepoolError STORE_CORRUPT */
  async start(): Promise<void> {
    this.#tokens = (await this.#file.read())?.tokens ?? [];
    const present = await readFile(this.#init.adminFile, 'utf8').catch(() => '');
    if (this.check(present.trim())?.role === 'admin') return;
    await this.#change((tokens) => tokens.filter(({ name }) => name !== LOCAL_ADMIN));
    const { token } = await this.create({ name: LOCAL_ADMIN, role: 'admin' });
    await replaceFile(this.#init.adminFile, `${token}\n`);
  }

  async stop(): Promise<void> {
    await this.#changes;
  }

  /** Whether it has the form of one of ours, so that nobody else need be asked about it. */
  isOurs(token: string): boolean {
    return token.startsWith(`${PREFIX}.`);
  }

  /** Whose token it is; undefined for one that is not known, or over. */
  check(token: string): { readonly name: string; readonly role: Role } | undefined {
    const [, id, secret] = TOKEN.exec(token) ?? [];
    if (id === undefined || secret === undefined) return undefined;
    const known = this.#tokens.find((each) => each.id === id);
    if (known === undefined || !timingSafeEqual(Buffer.from(known.hash), Buffer.from(hashOf(secret))))
      return undefined;
    if (known.expiresAt !== undefined && this.#clock.now() >= known.expiresAt) return undefined;
    return { name: known.name, role: known.role };
  }

  list(): readonly ApiTokenView[] {
    return this.#tokens.map(({ name, role, createdAt, expiresAt }) => ({
      name,
      role,
      createdAt,
      expiresAt: expiresAt ?? null,
      expired: expiresAt !== undefined && this.#clock.now() >= expiresAt,
    }));
  }

  /**
   * Durable when it resolves. The token itself is told here and never again.
   * @throws TidepoolError INVALID_ARGUMENT, CONFLICT for a name that is taken, OVERLOADED for too many
   */
  async create(init: {
    readonly name: string;
    readonly role: Role;
    readonly ttlMs?: number | undefined;
  }): Promise<{ readonly token: string; readonly view: ApiTokenView }> {
    const { name, role, ttlMs } = init;
    if (!NAME.test(name)) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `not a name for a token: ${quote(name)}; lower-case letters, digits, dots, dashes, 63 at most`,
      );
    }
    if (ttlMs !== undefined && !(ttlMs > 0)) {
      throw new TidepoolError('INVALID_ARGUMENT', 'a token has to live for some time: ttl is not above 0');
    }
    const id = randomBytes(32)
      .toString('base64url')
      .toLowerCase()
      .replaceAll(/[^a-z0-9]/g, '')
      .padEnd(12, '0')
      .slice(0, 12);
    const secret = randomBytes(32).toString('base64url');
    const createdAt = this.#clock.now();
    await this.#change((tokens) => {
      // One that is over makes room for another of its name.
      const others = tokens.filter((each) => each.name !== name || !this.#isOver(each));
      if (others.some((each) => each.name === name)) {
        throw new TidepoolError(
          'CONFLICT',
          `there is a token ${name} already; delete it first, or choose another name`,
        );
      }
      if (others.length >= MAX_TOKENS) {
        throw new TidepoolError('OVERLOADED', `there are ${MAX_TOKENS} tokens already; delete some`);
      }
      const expiry = ttlMs === undefined ? {} : { expiresAt: createdAt + ttlMs };
      return [...others, { id, name, role, hash: hashOf(secret), createdAt, ...expiry }];
    });
    const view = this.list().find((each) => each.name === name);
    if (view === undefined) throw new TidepoolError('CONFLICT', `token ${name} was deleted at once`);
    return { token: [PREFIX, id, secret].join('.'), view };
  }

  /** Durable when it resolves. @throws TidepoolError NOT_FOUND */
  async remove(name: string): Promise<void> {
    await this.#change((tokens) => {
      const left = tokens.filter((each) => each.name !== name);
      if (left.length === tokens.length)
        throw new TidepoolError('NOT_FOUND', `there is no token ${quote(name)}`);
      return left;
    });
  }

  #isOver({ expiresAt }: Saved): boolean {
    return expiresAt !== undefined && this.#clock.now() >= expiresAt;
  }

  /** One after the other; what is in force is what is on disk. */
  #change(change: (tokens: readonly Saved[]) => readonly Saved[]): Promise<void> {
    const next = this.#changes.then(async () => {
      const tokens = change(this.#tokens);
      await this.#file.write({ tokens: [...tokens] });
      this.#tokens = tokens;
    });
    this.#changes = next.catch(() => undefined);
    return next;
  }
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}
