/** The rooms of a hub's trust without its API, over vaults in memory. */
import { Authority } from '../../cloud/trust/authority.ts';
import { Enrolment } from '../../cloud/trust/enrolment.ts';
import { HubIdentity } from '../../cloud/trust/hub-identity.ts';
import { Ledger } from '../../cloud/trust/ledger.ts';
import { TrustBook } from '../../cloud/trust/trust-book.ts';
import type { AuthorityContent, ServiceAccountReviewer } from '../../cloud/trust/types.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryVault } from './memory-vault.ts';
import { DAY_MS } from './trust.ts';

export interface DeskInit {
  readonly clock?: ManualClock;
  readonly authorityVault?: MemoryVault<AuthorityContent>;
  readonly bookVault?: MemoryVault<string>;
  readonly signing?: { readonly atOnce: number; readonly waiting: number };
  readonly reviewer?: ServiceAccountReviewer;
  readonly poolOf?: (node: NodeName) => PoolName | undefined;
}

export interface Desk {
  readonly clock: ManualClock;
  readonly authorityVault: MemoryVault<AuthorityContent>;
  readonly bookVault: MemoryVault<string>;
  readonly authority: Authority;
  readonly ledger: Ledger;
  readonly book: TrustBook;
  readonly identity: HubIdentity;
  readonly enrolment: Enrolment;
  stop(): Promise<void>;
}

export async function startDesk(init: DeskInit = {}): Promise<Desk> {
  const clock = init.clock ?? new ManualClock();
  const authorityVault = init.authorityVault ?? new MemoryVault<AuthorityContent>();
  const bookVault = init.bookVault ?? new MemoryVault<string>();
  const log = silentLogger();
  const graceMs = 30 * DAY_MS;
  const lifetimeMs = 90 * DAY_MS;
  const ledger = new Ledger({ clock, log, vault: bookVault });
  const authority = new Authority({ clock, log, vault: authorityVault });
  const book = new TrustBook({ clock, log, ledger, authority }, { graceMs });
  const identity = new HubIdentity({ clock, log, authority, keys: book }, { lifetimeMs, graceMs, hosts: [] });
  const parts = [ledger, authority, book, identity];
  for (const part of parts) await part.start();
  const enrolment = new Enrolment(
    {
      clock,
      log,
      authority,
      book,
      identity,
      reviewer: init.reviewer,
      poolOf: init.poolOf ?? (() => undefined),
    },
    { lifetimeMs, ...(init.signing === undefined ? {} : { signing: init.signing }) },
  );
  return {
    clock,
    authorityVault,
    bookVault,
    authority,
    ledger,
    book,
    identity,
    enrolment,
    stop: async () => {
      for (const part of [...parts].reverse()) await part.stop();
    },
  };
}
