/** Where the API server is and who we are there. */
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** Projected tokens are replaced long before they end; kubelet's own clients read them anew each minute. */
const REREAD_MS = 60_000;

export interface TlsMaterial {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface Credentials {
  /** Headers that say who asks. */
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly tls: TlsMaterial;
}

export interface KubeAccess {
  /** Without a slash at the end. */
  readonly server: string;
  /** Newest credentials; cheap to ask for before every request. @throws TidepoolError UNAUTHORIZED */
  credentials(): Promise<Credentials>;
}

/**
 * Access as a pod has it.
 * @throws TidepoolError INVALID_CONFIG outside of a pod
 */
export async function inClusterAccess(
  clock: Clock,
  env: Readonly<Record<string, string | undefined>>,
  directory: string = SERVICE_ACCOUNT,
): Promise<KubeAccess> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = env;
  if (host === undefined || host === '') {
    throw new TidepoolError(
      'INVALID_CONFIG',
      '--kubernetes works in a pod of the cluster, and this is none: KUBERNETES_SERVICE_HOST is not set. Outside of the cluster, name a kubeconfig file: --kubeconfig FILE',
    );
  }
  const read = async (): Promise<Credentials> => {
    const [token, ca] = await Promise.all([
      readFile(`${directory}/token`, 'utf8'),
      readFile(`${directory}/ca.crt`, 'utf8'),
    ]);
    return { headers: { authorization: `Bearer ${token.trim()}` }, tls: { ca } };
  };
  try {
    const first = await read();
    const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
    return { server, credentials: renewed(clock, REREAD_MS, first, read) };
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `the pod's service account cannot be read: ${describeError(error)}; the pod needs automountServiceAccountToken: true`,
      { cause: error },
    );
  }
}

/** The last answer of `read`, asked for anew when it is older than `ms`; a failure keeps what was good. */
export function renewed(
  clock: Clock,
  ms: number,
  first: Credentials,
  read: () => Promise<Credentials>,
): () => Promise<Credentials> {
  let last = first;
  let readAt = clock.mono();
  return async () => {
    if (clock.mono() - readAt < ms) return last;
    readAt = clock.mono();
    // A token file that is being replaced: the one before is good for a while, and the server says when it is not.
    last = await read().catch(() => last);
    return last;
  };
}
