/** The hub's API alone, over TLS, with a real authority, and callers with and without certificates. */
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ApiServer } from '../../cloud/api/server.ts';
import type { ApiComponents } from '../../cloud/api/types.ts';
import type { JobStore } from '../../cloud/prefetch/job-store.ts';
import { ApiTokens } from '../../cloud/trust/api-tokens.ts';
import { AuditLog } from '../../cloud/trust/audit-log.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { silentLogger } from '../../shared/log.ts';
import { clientTls } from '../../shared/trust/tls.ts';
import type { Role } from '../../shared/wire/api.ts';
import { TestAuthority, type TestIdentity } from './trust.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly json: unknown;
}

export interface Ask {
  readonly as?: TestIdentity;
  readonly token?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ApiFixture {
  readonly api: ApiServer;
  readonly authority: TestAuthority;
  readonly hub: TestIdentity;
  readonly tokens: ApiTokens;
  readonly audit: AuditLog;
  readonly data: string;
  /** Ids of jobs that the API was told to take away. */
  readonly removed: string[];
  token(role: Role): Promise<string>;
  ask(method: string, route: string, ask?: Ask): Promise<Answer>;
  close(): Promise<void>;
}

export async function startApi(
  init: {
    readonly components?: Partial<ApiComponents>;
    readonly openMetrics?: boolean;
    readonly clock?: Clock;
    readonly auditFile?: string;
  } = {},
): Promise<ApiFixture> {
  const data = await mkdtemp(path.join(tmpdir(), 'tidepool-api-'));
  const clock = init.clock ?? systemClock;
  const log = silentLogger();
  const authority = await TestAuthority.make();
  const hub = await authority.hub();
  const tokens = new ApiTokens(
    { clock },
    { file: path.join(data, 'api-tokens.json'), adminFile: path.join(data, 'admin-token') },
  );
  await tokens.start();
  const audit = new AuditLog({ clock, log }, { file: init.auditFile ?? path.join(data, 'audit.log') });
  const removed: string[] = [];
  const api = new ApiServer(
    {
      ...nothing(clock, removed),
      identity: hub,
      tokens,
      audit,
      ...init.components,
    },
    { host: '127.0.0.1', port: 0, openMetrics: init.openMetrics ?? false },
  );
  await api.start();
  let made = 0;
  return {
    api,
    authority,
    hub,
    tokens,
    audit,
    data,
    removed,
    token: async (role) => (await tokens.create({ name: `t${++made}`, role })).token,
    ask: (method, route, ask = {}) => call(api.address, authority, method, route, ask),
    async close() {
      await api.stop();
      await audit.stop();
      await tokens.stop();
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** A hub that has nothing but a job store which says yes. */
function nothing(clock: Clock, removed: string[]): ApiComponents {
  const view = {
    membership: { nodes: new Map(), pools: new Map(), problems: [] },
    tuning: new Map(),
    jobs: new Map(),
    problems: [],
  };
  return {
    clock,
    log: silentLogger(),
    reconciler: { view, tuning: { table: {}, texts: {}, problems: [] }, now: async () => undefined },
    observed: { get: () => undefined, all: () => new Map() },
    jobs: {
      has: () => true,
      remove: async (id: string) => void removed.push(id),
    } as unknown as JobStore,
    planner: { plan: () => Promise.reject(new Error('nothing to plan')) },
    link: { state: { connected: true, since: 0, lastError: undefined } },
    publisher: { pending: 0, published: 0, messages: () => [] },
    inbox: { received: 0, bad: 0 },
    problems: () => [],
    brokerConnections: () => 0,
    hook: {
      authorize: async () => undefined,
      take: async () => ({ jobs: [], ignored: [] }),
    },
    forget: () => false,
  };
}

function call(
  address: string,
  authority: TestAuthority,
  method: string,
  route: string,
  { as, token, body, headers }: Ask,
): Promise<Answer> {
  const tls =
    as === undefined
      ? { ca: authority.root.cert, rejectUnauthorized: false, minVersion: 'TLSv1.3' as const }
      : clientTls(as);
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const outgoing = request(
      `https://${address}${route}`,
      {
        ...tls,
        method,
        agent: false,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(text === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const read = Buffer.concat(chunks).toString('utf8');
          let json: unknown = read;
          try {
            json = read === '' ? undefined : JSON.parse(read);
          } catch {
            // Metrics are no JSON.
          }
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, json });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}
