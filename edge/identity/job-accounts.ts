import { constants } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { refused } from '../../shared/trust/certificate.ts';
import { makeSealKey, openSealed } from '../../shared/trust/seal.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { credentialContext, sealedAccounts } from '../../shared/wire/credentials.ts';
import { HubClient } from './hub-client.ts';

export interface JobAccountsComponents {
  readonly clock: Clock;
  readonly identity: TlsIdentity & { readonly pool: PoolName | undefined };
}

export interface JobAccountsInit {
  readonly node: NodeName;
  /** Base URL of the hub's API. */
  readonly url: string;
  readonly localAddress?: string | undefined;
}

/** An account of a registry. In memory only. */
export interface Account {
  readonly username: string;
  readonly password: string;
}

/** Gets the accounts of a prefetch from the hub. They are sealed for a key that is made for the one answer. */
export class JobAccounts {
  readonly #identity: JobAccountsComponents['identity'];
  readonly #client: HubClient;
  readonly #node: NodeName;

  constructor(components: JobAccountsComponents, init: JobAccountsInit) {
    const { url, localAddress, node } = init;
    this.#identity = components.identity;
    this.#client = new HubClient({ clock: components.clock }, { url, localAddress });
    this.#node = node;
  }

  /**
   * By the registry's host.
   * @throws TidepoolError HUB_UNREACHABLE, NOT_ENROLLED, CERTIFICATE_REFUSED, SIGNATURE_WRONG, or the hub's own refusal
   */
  async of(
    { id, generation }: { readonly id: string; readonly generation: number },
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Account>> {
    const { pool } = this.#identity;
    if (pool === undefined) throw new TidepoolError('NOT_ENROLLED', 'this node has no certificate yet');
    const { privateKey, publicKey } = makeSealKey();
    const { sealed } = await this.#client.credentials(
      { job: id, generation, sealKey: publicKey },
      {
        tls: { ...this.#identity.current(), secureOptions: constants.SSL_OP_NO_TICKET },
        admit: ([own]) => {
          if (own === undefined) throw refused('the hub has shown none');
          const principal = this.#identity.judge(own);
          if (principal.kind !== 'hub') throw refused(`it is ${principal.node}'s, and this is no hub`);
        },
        signal,
      },
    );
    const context = credentialContext({ pool, node: this.#node, job: id, generation });
    const opened = sealedAccounts.safeParse(readJson(openSealed(sealed, privateKey, context)));
    if (opened.success) return new Map(Object.entries(opened.data.registries));
    // Not in the parser's words: they may quote what stands in it.
    throw new TidepoolError('HUB_UNREACHABLE', `the hub’s accounts for prefetch ${id} cannot be read`);
  }
}

function readJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
