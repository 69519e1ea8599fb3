/**
 * The current context of a kubeconfig file. Read by hand: the client library's reader brings every type of Kubernetes
 * along, 6 MB of code and some 40 MiB of memory, in a hub that sends plain JSON.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { type Credentials, type KubeAccess, renewed, type TlsMaterial } from './access.ts';
import { ExecLogin } from './exec-login.ts';

/** Files that the config names may be replaced; plugins keep their own time beneath this. */
const RECHECK_MS = 10_000;

const cluster = z.looseObject({
  server: z.string().regex(/^https?:\/\//, 'expected https://host:port'),
  'certificate-authority': z.string().optional(),
  'certificate-authority-data': z.string().optional(),
  'insecure-skip-tls-verify': z.boolean().optional(),
  'tls-server-name': z.string().optional(),
  'proxy-url': z.string().optional(),
});
const user = z.looseObject({
  token: z.string().optional(),
  tokenFile: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  'client-certificate': z.string().optional(),
  'client-certificate-data': z.string().optional(),
  'client-key': z.string().optional(),
  'client-key-data': z.string().optional(),
  as: z.string().optional(),
  'as-groups': z.array(z.string()).optional(),
  'auth-provider': z.looseObject({ name: z.string() }).optional(),
  exec: z
    .looseObject({
      apiVersion: z.string(),
      command: z.string().min(1),
      args: z.array(z.string()).nullish(),
      env: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
    })
    .optional(),
});
const context = z.looseObject({ cluster: z.string(), user: z.string().optional() });
const kubeconfig = z.looseObject({
  'current-context': z.string().optional(),
  clusters: z.array(z.looseObject({ name: z.string(), cluster })).nullish(),
  contexts: z.array(z.looseObject({ name: z.string(), context })).nullish(),
  users: z.array(z.looseObject({ name: z.string(), user: z.unknown() })).nullish(),
});

export type KubeUser = z.infer<typeof user>;

/**
 * @param env for credential plugins
 * @throws TidepoolError INVALID_CONFIG
 */
export async function kubeconfigAccess(
  clock: Clock,
  file: string,
  env: Readonly<Record<string, string | undefined>> = {},
): Promise<KubeAccess> {
  const refuse = (why: string, cause?: unknown): TidepoolError =>
    new TidepoolError('INVALID_CONFIG', `the kubeconfig ${file} ${why}`, { cause });
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw refuse(`cannot be read: ${describeError(error)}`, error);
  }
  const { chosen, login } = choose(text, refuse);
  if (chosen['proxy-url'] !== undefined) {
    throw refuse('has a proxy-url, which the hub does not go through; reach the API server directly');
  }
  if (login['auth-provider'] !== undefined) {
    const { name } = login['auth-provider'];
    throw refuse(`logs in by auth-provider ${quote(name)}, which is no more; use a token or an exec plugin`);
  }
  const server = chosen.server.replace(/\/+$/, '');
  const directory = path.dirname(path.resolve(file));
  const exec =
    login.exec === undefined
      ? undefined
      : new ExecLogin({ clock }, { ...login.exec, directory, environment: env });
  const read = async (): Promise<Credentials> => {
    const given = await exec?.credentials();
    const tls = await tlsOf(chosen, login, directory);
    const token = given?.token ?? login.token ?? (await tokenIn(login.tokenFile, directory));
    return {
      headers: headersOf(login, token),
      tls: {
        ...tls,
        ...(given?.cert === undefined ? {} : { cert: given.cert }),
        ...(given?.key === undefined ? {} : { key: given.key }),
      },
    };
  };
  let first: Credentials;
  try {
    first = await read();
  } catch (error) {
    throw refuse(`gives no credentials: ${describeError(error)}`, error);
  }
  return { server, credentials: renewed(clock, RECHECK_MS, first, read) };
}

function choose(
  text: string,
  refuse: (why: string, cause?: unknown) => TidepoolError,
): { readonly chosen: z.infer<typeof cluster>; readonly login: KubeUser } {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw refuse(`is no YAML: ${describeError(error)}`, error);
  }
  const result = kubeconfig.safeParse(document);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw refuse(`has a mistake at ${issue?.path.join('.') || 'its top'}: ${issue?.message ?? ''}`);
  }
  const { clusters, contexts, users, 'current-context': current = '' } = result.data;
  if (current === '') throw refuse('has no current-context; choose one: kubectl config use-context NAME');
  const place = contexts?.find(({ name }) => name === current)?.context;
  if (place === undefined) throw refuse(`has no context ${quote(current)}, which is its current one`);
  const chosen = clusters?.find(({ name }) => name === place.cluster)?.cluster;
  if (chosen === undefined) throw refuse(`has no cluster ${quote(place.cluster)}, which its context names`);
  const login = users?.find(({ name }) => name === place.user)?.user ?? {};
  const checked = user.safeParse(login);
  if (!checked.success) {
    // Only of the user that is used; of the message nothing that could be a secret.
    throw refuse(
      `has a mistake in user ${quote(place.user ?? '')} at ${checked.error.issues[0]?.path.join('.')}`,
    );
  }
  return { chosen, login: checked.data };
}

async function tlsOf(
  chosen: z.infer<typeof cluster>,
  login: KubeUser,
  directory: string,
): Promise<TlsMaterial> {
  const material = async (
    data: string | undefined,
    file: string | undefined,
  ): Promise<Buffer | undefined> => {
    if (data !== undefined) return Buffer.from(data, 'base64');
    return file === undefined ? undefined : readFile(path.resolve(directory, file));
  };
  const [ca, cert, key] = await Promise.all([
    material(chosen['certificate-authority-data'], chosen['certificate-authority']),
    material(login['client-certificate-data'], login['client-certificate']),
    material(login['client-key-data'], login['client-key']),
  ]);
  const servername = chosen['tls-server-name'];
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(servername === undefined ? {} : { servername }),
    ...(chosen['insecure-skip-tls-verify'] === true ? { rejectUnauthorized: false } : {}),
  };
}

async function tokenIn(file: string | undefined, directory: string): Promise<string | undefined> {
  return file === undefined ? undefined : (await readFile(path.resolve(directory, file), 'utf8')).trim();
}

function headersOf(login: KubeUser, token: string | undefined): Record<string, string | string[]> {
  const { username, password = '', as, 'as-groups': groups } = login;
  return {
    ...(token !== undefined
      ? { authorization: `Bearer ${token}` }
      : username === undefined
        ? {}
        : { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }),
    ...(as === undefined ? {} : { 'impersonate-user': as }),
    ...(groups === undefined ? {} : { 'impersonate-group': groups }),
  };
}
