import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { HandedCredentialView } from '../../shared/wire/api.ts';
import { JsonFile } from '../data/json-file.ts';

const MAX_NODES = 20_000;
const MAX_A_NODE = 200;

const saved = z.record(
  z.string(),
  z.array(
    z.object({
      secret: z.string(),
      registry: z.string(),
      username: z.string(),
      firstAt: z.number(),
      lastAt: z.number(),
    }),
  ),
);

/** An account that goes to a node, without what is secret of it. */
export type HandedAccount = Pick<HandedCredentialView, 'secret' | 'registry' | 'username'>;

/**
 * Which node has had which account: what has to be changed when the node is stolen. Nothing is ever taken out, because
 * a node may have kept what it was given.
 */
export class HandedCredentials implements Startable {
  readonly name = 'handed credentials';
  readonly #clock: Clock;
  readonly #file: JsonFile<z.infer<typeof saved>>;
  readonly #nodes = new Map<string, HandedCredentialView[]>();
  #next: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(components: { readonly clock: Clock }, init: { readonly file: string }) {
    this.#clock = components.clock;
    this.#file = new JsonFile(init.file, saved);
  }

  /** @throws TidepoolError STORE_CORRUPT */
  async start(): Promise<void> {
    for (const [node, accounts] of Object.entries((await this.#file.read()) ?? {})) {
      this.#nodes.set(node, accounts);
    }
  }

  async stop(): Promise<void> {
    await this.#next;
    await this.#last;
  }

  /** The newest last. */
  of(node: NodeName): readonly HandedCredentialView[] {
    return this.#nodes.get(node) ?? [];
  }

  /**
   * Before they are handed over; durable when it resolves.
   * @throws TidepoolError OVERLOADED when there is no room for more, and the system's error of the disk
   */
  async record(node: NodeName, accounts: readonly HandedAccount[]): Promise<void> {
    if (accounts.length === 0) return;
    const before = this.of(node);
    const after = [...before];
    const now = this.#clock.now();
    for (const account of accounts) {
      const index = after.findIndex((each) => sameAccount(each, account));
      const firstAt = after[index]?.firstAt ?? now;
      if (index >= 0) after.splice(index, 1);
      after.push({ ...account, firstAt, lastAt: now });
    }
    if (after.length > MAX_A_NODE || (before.length === 0 && this.#nodes.size >= MAX_NODES)) {
      throw new TidepoolError(
        'OVERLOADED',
        `node ${node} gets no more accounts: there is no room to remember which it had`,
      );
    }
    // Stays also when the disk fails: what is remembered too much does no harm.
    this.#nodes.set(node, after);
    // That it was handed over once more may be written with the next that is new.
    if (after.length > before.length) await this.#flush();
  }

  /** Many that come at once are written once. */
  #flush(): Promise<void> {
    this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      const writing = this.#file.write(Object.fromEntries(this.#nodes));
      this.#last = writing.catch(() => undefined);
      return writing;
    });
    return this.#next;
  }
}

function sameAccount(a: HandedAccount, b: HandedAccount): boolean {
  return a.secret === b.secret && a.registry === b.registry && a.username === b.username;
}
