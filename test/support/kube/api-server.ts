import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Daemon, mustRun, waitUntil } from '../../lab/process.ts';
import { freePort } from '../free-port.ts';
import { Etcd } from './etcd.ts';
import { send, sendFrom } from './send.ts';

const ADMIN = 'tidepool-test-admin';
/** What test/kube-apiserver/build.sh builds, and in which version. */
const MODULE = fileURLToPath(new URL('../../kube-apiserver/go.mod', import.meta.url));
const START_MS = 90_000;
const CLEAR_MS = 30_000;
const SPARE_USERS = 64;
/** Where tests put things; of the rest, an API server makes some by itself, late. */
const OF_TESTS =
  /^\/registry\/(minions|configmaps|secrets|pods|events|leases|deployments|daemonsets|statefulsets|jobs|(cluster)?role(binding)?s|serviceaccounts|apiextensions\.k8s\.io|tidepool\.dev|apps\.openyurt\.io)\//;
/** By which its callers see that it is empty. */
const TOLD_LATE = [
  '/api/v1/nodes?resourceVersion=0',
  '/api/v1/configmaps?resourceVersion=0&fieldSelector=metadata.name%3Dtidepool-tuning',
  '/api/v1/secrets?resourceVersion=0',
  '/apis/apiextensions.k8s.io/v1/customresourcedefinitions?resourceVersion=0',
  '/apis/tidepool.dev',
  '/apis/apps.openyurt.io',
];
/** Of those, what it makes for itself. */
const OF_SERVER = /^\/registry\/(leases\/kube-system\/apiserver-|(cluster)?role(binding)?s\/(.*\/)?system:)/;

/** A server that the suite runs against: the real one, or the double. */
export interface TestApiServer {
  readonly kind: 'kube-apiserver' | 'double';
  /** `https://127.0.0.1:port` */
  readonly url: string;
  /** A file with every right. */
  readonly kubeconfig: string;
  /** A kubeconfig of somebody who may do just these; `group` empty for the core. */
  kubeconfigFor(user: string, rules: readonly Rule[]): Promise<string>;
  /** With every right; rejects for an answer over 299. */
  call(method: string, path: string, body?: unknown, contentType?: string): Promise<unknown>;
  /** Ends the server as a crash does; what it stored stays. */
  halt(): Promise<void>;
  /** Starts it again, on the same address. */
  resume(): Promise<void>;
  /** Lets it hang: connections stay open, and nothing comes. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Forgets all history of the objects: watches from before must list again. */
  compact(): Promise<void>;
  close(): Promise<void>;
}

/** A kube-apiserver, which others may use after one another. */
export interface RealApiServer extends TestApiServer {
  /** Of all its files. */
  readonly root: string;
  /** Resolves when everything that was put into it since its start is gone, for its callers too. */
  clear(): Promise<void>;
  /** Has it stand still. */
  rest(): void;
  /** Resolves when it answers again, whatever was done to it. */
  wake(): Promise<void>;
}

export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

export interface ApiServerBinaries {
  readonly etcd: string;
  readonly apiserver: string;
}

/** The two programs, or in words what is missing. KUBEBUILDER_ASSETS is looked at first, then PATH, then the cache. */
export function findApiServer(): ApiServerBinaries | { readonly missing: string } {
  const { KUBEBUILDER_ASSETS: assets, PATH: path = '', XDG_CACHE_HOME: cacheHome } = process.env;
  const version = /^\tk8s\.io\/kubernetes v([\d.]+)$/m.exec(readFileSync(MODULE, 'utf8'))?.[1] ?? '';
  const cache = join(cacheHome ?? join(homedir(), '.cache'), 'tidepool', `kube-apiserver-${version}`);
  const places = [
    ...(assets === undefined || assets === '' ? [] : [assets]),
    ...path.split(delimiter),
    cache,
  ];
  const find = (name: string): string | undefined =>
    places.map((place) => join(place, name)).find((file) => existsSync(file));
  const etcd = find('etcd');
  const apiserver = find('kube-apiserver');
  if (etcd !== undefined && apiserver !== undefined) return { etcd, apiserver };
  const missing = [etcd === undefined ? 'etcd' : [], apiserver === undefined ? 'kube-apiserver' : []].flat();
  return {
    missing: `${missing.join(' and ')} not found in KUBEBUILDER_ASSETS, PATH or ${cache} (Debian package etcd-server, test/kube-apiserver/build.sh)`,
  };
}

export interface ApiServerInit {
  /** Makes a command one that runs in another network namespace: the server is on loopback there. */
  readonly enter?: (command: readonly string[]) => string[];
  /** Every request is written down; {@link auditedRequests} counts them. */
  readonly auditLog?: string;
  /** Told of each process that is started. */
  readonly onSpawn?: (pid: number) => void;
}

/** A kube-apiserver with an etcd of its own, RBAC on, on loopback. About 10 s. */
export async function startApiServer(
  binaries: ApiServerBinaries,
  init: ApiServerInit = {},
): Promise<RealApiServer> {
  const { enter, onSpawn } = init;
  const there = (command: readonly string[]): readonly string[] => enter?.(command) ?? command;
  const root = await mkdtemp(join(tmpdir(), 'tidepool-kube-'));
  const [etcdPort, peerPort, port] = await Promise.all([
    freePort('127.0.0.1'),
    freePort('127.0.0.1'),
    freePort('127.0.0.1'),
  ]);
  const certs = join(root, 'certs');
  await mkdir(certs);
  await makeKeys(certs);
  const users: string[] = [`${ADMIN},admin,admin,"system:masters"`];
  const tokens = join(root, 'tokens.csv');
  const writeTokens = (): Promise<void> => writeFile(tokens, `${users.join('\n')}\n`);
  // The file is read at the start only, so a few users stand in it from the beginning.
  const spare = Array.from({ length: SPARE_USERS }, (_, index) => `user-${index}`);
  for (const each of spare) users.push(`token-of-${each},${each},${each}`);
  await writeTokens();
  const etcd = new Daemon({
    label: 'etcd',
    logFile: join(root, 'etcd.log'),
    command: there([
      binaries.etcd,
      `--data-dir=${join(root, 'etcd')}`,
      `--listen-client-urls=http://127.0.0.1:${etcdPort}`,
      `--advertise-client-urls=http://127.0.0.1:${etcdPort}`,
      `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peerPort}`,
      `--initial-cluster=default=http://127.0.0.1:${peerPort}`,
      // Nothing here has to outlive a power cut.
      '--unsafe-no-fsync',
    ]),
  });
  onSpawn?.(etcd.pid);
  const url = `https://127.0.0.1:${port}`;
  const store = new Etcd(etcdPort);
  const audit = await auditFlags(root, init.auditLog);
  const spawnServer = (): Daemon => {
    const daemon = new Daemon({
      label: 'kube-apiserver',
      logFile: join(root, 'apiserver.log'),
      command: there([
        binaries.apiserver,
        `--etcd-servers=http://127.0.0.1:${etcdPort}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        `--secure-port=${port}`,
        `--cert-dir=${certs}`,
        `--tls-cert-file=${join(certs, 'server.crt')}`,
        `--tls-private-key-file=${join(certs, 'server.key')}`,
        `--service-account-key-file=${join(certs, 'server.key')}`,
        `--service-account-signing-key-file=${join(certs, 'server.key')}`,
        '--service-account-issuer=https://tidepool.test',
        `--token-auth-file=${tokens}`,
        '--authorization-mode=RBAC',
        '--service-cluster-ip-range=10.0.0.0/24',
        '--disable-admission-plugins=ServiceAccount',
        '--endpoint-reconciler-type=none',
        '--shutdown-delay-duration=0s',
        // Bound by the test, not by the default of 5 min.
        '--etcd-compaction-interval=0',
        ...audit,
        '--v=1',
      ]),
    });
    onSpawn?.(daemon.pid);
    return daemon;
  };
  let server = spawnServer();
  const call = (method: string, path: string, body?: unknown, type?: string): Promise<unknown> =>
    enter === undefined
      ? send(`${url}${path}`, ADMIN, method, body, type)
      : sendFrom(enter, `${url}${path}`, ADMIN, method, body, type);
  const ready = (): Promise<void> =>
    waitUntil(
      async () => {
        if (!server.running) throw new Error(`kube-apiserver ended: ${server.tail(30)}`);
        return call('GET', '/readyz').then(
          () => true,
          () => false,
        );
      },
      {
        timeoutMs: START_MS,
        everyMs: 100,
        describe: () => `kube-apiserver does not come up: ${server.tail(30)}`,
      },
    );
  const config = async (name: string, token: string): Promise<string> => {
    const file = join(root, `${name}.kubeconfig`);
    await writeFile(file, kubeconfig(url, token, { 'certificate-authority': join(certs, 'server.crt') }));
    return file;
  };
  const close = async (): Promise<void> => {
    await server.kill();
    await etcd.kill();
    await rm(root, { recursive: true, force: true });
  };
  const resume = async (): Promise<void> => {
    server = spawnServer();
    await ready();
  };
  let own: ReadonlySet<string>;
  try {
    await ready();
    own = new Set(enter === undefined ? await store.keys() : []);
  } catch (error) {
    await close();
    throw error;
  }
  const isGone = (path: string): Promise<boolean> =>
    call('GET', path).then(
      (answer) => Reflect.get(Object(Reflect.get(Object(answer), 'items')), 'length') === 0,
      (error: unknown) => String(error).includes('404'),
    );
  return {
    kind: 'kube-apiserver',
    root,
    url,
    kubeconfig: await config('admin', ADMIN),
    async kubeconfigFor(user, rules) {
      const name = spare.shift();
      if (name === undefined) throw new Error('no users left');
      const subjects = [{ kind: 'User', name, apiGroup: 'rbac.authorization.k8s.io' }];
      const group = 'rbac.authorization.k8s.io/v1';
      const metadata = { name: `test-${user}` };
      await call('POST', `/apis/${group}/clusterroles`, {
        apiVersion: group,
        kind: 'ClusterRole',
        metadata,
        rules,
      });
      await call('POST', `/apis/${group}/clusterrolebindings`, {
        apiVersion: group,
        kind: 'ClusterRoleBinding',
        metadata,
        subjects,
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name },
      });
      return config(user, `token-of-${name}`);
    },
    call,
    halt: () => server.kill(),
    resume,
    async freeze() {
      process.kill(server.pid, 'SIGSTOP');
    },
    async thaw() {
      process.kill(server.pid, 'SIGCONT');
    },
    compact: () => store.compact(),
    async clear() {
      const foreign = (key: string): boolean => OF_TESTS.test(key) && !OF_SERVER.test(key) && !own.has(key);
      await store.remove((await store.keys()).filter(foreign));
      // What it answers out of its caches, and whom it serves, follows a moment later.
      for (const path of TOLD_LATE) {
        await waitUntil(() => isGone(path), {
          timeoutMs: CLEAR_MS,
          everyMs: 20,
          describe: () => `${path} is still served: ${server.tail(10)}`,
        });
      }
    },
    rest() {
      server.signal('SIGSTOP');
      etcd.signal('SIGSTOP');
    },
    async wake() {
      etcd.signal('SIGCONT');
      server.signal('SIGCONT');
      await (server.running ? ready() : resume());
    },
    close,
  };
}

async function auditFlags(root: string, file: string | undefined): Promise<string[]> {
  if (file === undefined) return [];
  const policy = join(root, 'audit.json');
  const rules = [{ level: 'Metadata', omitStages: ['RequestReceived'] }];
  await writeFile(policy, JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', rules }));
  return [`--audit-policy-file=${policy}`, `--audit-log-path=${file}`, '--audit-log-mode=blocking'];
}

/** Requests of a client in an audit log, by the beginning of its User-Agent; `verb path` each. */
export async function auditedRequests(file: string, userAgent: string): Promise<string[]> {
  const found = new Map<string, string>();
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    if (!line.endsWith('}')) continue;
    const entry = JSON.parse(line) as {
      auditID: string;
      verb: string;
      requestURI: string;
      userAgent?: string;
    };
    // A watch stands there twice: when it begins and when it ends.
    if (entry.userAgent?.startsWith(userAgent) === true) {
      found.set(entry.auditID, `${entry.verb} ${entry.requestURI}`);
    }
  }
  return [...found.values()];
}

async function makeKeys(directory: string): Promise<void> {
  await mustRun([
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days=2',
    '-subj=/CN=tidepool-test',
    '-addext=subjectAltName=IP:127.0.0.1',
    `-keyout=${join(directory, 'server.key')}`,
    `-out=${join(directory, 'server.crt')}`,
  ]);
}

/** JSON is YAML. */
export function kubeconfig(
  server: string,
  token: string,
  cluster: Readonly<Record<string, unknown>>,
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server, ...cluster } }],
    users: [{ name: 'test', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  });
}
