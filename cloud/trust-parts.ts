/** The hub's authority, whom it knows, and what it shows of itself; everything that speaks TLS is made after these. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import { describeError } from '../shared/errors.ts';
import type { NodeName, PoolName } from '../shared/ids.ts';
import { Lifecycle } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import type { HubSettings } from './config/settings.ts';
import { type TrustSettings, trustOf } from './config/trust-settings.ts';
import { replaceFile } from './data/json-file.ts';
import { inClusterAccess } from './kube/access.ts';
import { KubeClient } from './kube/kube-client.ts';
import { kubeconfigAccess } from './kube/kubeconfig.ts';
import { RootsConfigMap } from './kube/roots-config-map.ts';
import { AuthoritySecret, TextSecret } from './kube/secret-vault.ts';
import { TokenReview } from './kube/token-review.ts';
import { Authority } from './trust/authority.ts';
import { AuthorityFiles, ExternalAuthority } from './trust/authority-files.ts';
import { Enrolment } from './trust/enrolment.ts';
import { HubIdentity } from './trust/hub-identity.ts';
import { Ledger } from './trust/ledger.ts';
import { StateFile } from './trust/state-file.ts';
import { TrustBook } from './trust/trust-book.ts';
import type { AuthorityContent, ServiceAccountReviewer, Vault } from './trust/types.ts';

export interface Trust {
  readonly authority: Authority;
  readonly identity: HubIdentity;
  readonly book: TrustBook;
  /** Who lets nodes in; `poolOf` is what the documents say. */
  enrolment(poolOf: (node: NodeName) => PoolName | undefined): Enrolment;
  /** What another hub has written while this one stood by. */
  reload(): void;
  stop(): Promise<void>;
}

interface TrustComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Vaults {
  readonly client: KubeClient | undefined;
  readonly authority: Vault<AuthorityContent>;
  readonly book: Vault<string>;
  readonly reviewer: ServiceAccountReviewer | undefined;
}

/**
 * Everything is started when it resolves; undefined where the settings want none of it.
 * @throws TidepoolError STORE_CORRUPT, INVALID_CONFIG, KUBE_UNREACHABLE, DENIED
 */
export async function startTrust(
  components: TrustComponents,
  settings: HubSettings,
  version: string,
): Promise<Trust | undefined> {
  if (settings.insecure) return undefined;
  const { clock, log } = components;
  const { lifetimeMs, graceMs, hosts, rootsConfigMap, ...trust } = settings.trust ?? trustOf();
  const vaults = await makeVaults(components, settings, trust, version);
  const { reviewer } = vaults;
  const ledger = new Ledger({ clock, log, vault: vaults.book });
  const authority = new Authority({ clock, log, vault: vaults.authority });
  const book = new TrustBook({ clock, log, ledger, authority }, { graceMs });
  const identity = new HubIdentity({ clock, log, authority, keys: book }, { lifetimeMs, graceMs, hosts });
  const { client } = vaults;
  const { kubernetes } = settings;
  const told =
    client === undefined || kubernetes === undefined || rootsConfigMap === undefined
      ? []
      : [
          new RootsConfigMap(
            // Nobody but this hub's own files says what an external authority is.
            { clock, log, client, authority, refresh: async () => trust.external ?? authority.reload() },
            { namespace: kubernetes.namespace, name: rootsConfigMap },
          ),
        ];
  const life = new Lifecycle(
    [...(client === undefined ? [] : [client]), ledger, authority, book, identity, ...told],
    log,
  );
  await life.start();
  if (vaults.authority.place !== rootsDirectory(settings)) copyRoots(authority, settings, log);
  return {
    authority,
    identity,
    book,
    enrolment: (poolOf) =>
      new Enrolment({ clock, log, authority, book, identity, reviewer, poolOf }, { lifetimeMs }),
    reload: () => {
      Promise.all([authority.reload(), ledger.reload()]).catch((error: unknown) => {
        log.error(
          { reason: describeError(error) },
          'what other hubs have written of trust could not be read',
        );
      });
    },
    stop: () => life.stop(),
  };
}

/** Commands on this machine know the hub by it, wherever its authority is kept. */
function copyRoots(authority: Authority, settings: HubSettings, log: Logger): void {
  const file = path.join(rootsDirectory(settings), 'ca.pem');
  const write = (): void => {
    const pem = authority
      .roots()
      .map((root) => root.pem)
      .join('');
    replaceFile(file, pem).catch((error: unknown) => {
      log.warn(
        { file, reason: describeError(error) },
        'the roots could not be copied for commands on this machine',
      );
    });
  };
  write();
  authority.onChange(write);
}

function rootsDirectory({ data }: Pick<HubSettings, 'data'>): string {
  return path.join(data, 'trust');
}

async function makeVaults(
  { clock, env }: TrustComponents,
  settings: HubSettings,
  {
    external,
    roots,
    secret,
    audience,
    serviceAccounts,
  }: Omit<TrustSettings, 'lifetimeMs' | 'graceMs' | 'hosts' | 'rootsConfigMap'>,
  version: string,
): Promise<Vaults> {
  const { kubernetes } = settings;
  const directory = rootsDirectory(settings);
  const given = external === undefined ? undefined : new ExternalAuthority({ ...external, roots });
  if (kubernetes === undefined) {
    return {
      client: undefined,
      authority: given ?? new AuthorityFiles({ directory }),
      book: new StateFile({ file: path.join(directory, 'book.json') }),
      reviewer: undefined,
    };
  }
  const { namespace, kubeconfig } = kubernetes;
  const access =
    kubeconfig === undefined
      ? await inClusterAccess(clock, env)
      : await kubeconfigAccess(clock, kubeconfig, env);
  const client = new KubeClient({ clock, access }, { userAgent: `tidepool-hub/${version}` });
  return {
    client,
    authority: given ?? new AuthoritySecret({ client }, { namespace, name: secret }),
    book: new TextSecret({ client }, { namespace, name: `${secret}-book` }),
    reviewer: new TokenReview({ client }, { audience, accounts: serviceAccounts }),
  };
}
