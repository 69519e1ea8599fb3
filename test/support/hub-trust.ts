/** A hub with an authority of its own, and nodes that ask it for certificates. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { SecureContextOptions } from 'node:tls';
import { HubClient as AdminClient } from '../../cloud/cli/hub-client.ts';
import type { HubSettings } from '../../cloud/config/settings.ts';
import { trustOf, type WrittenTrust } from '../../cloud/config/trust-settings.ts';
import { type EnrollBody, HubClient, type Issued } from '../../edge/identity/hub-client.ts';
import { makeRequest } from '../../edge/identity/request.ts';
import { systemClock } from '../../shared/clock.ts';
import { readRoots } from '../../shared/trust/certificate.ts';
import type { JoinTokenMade } from '../../shared/wire/api.ts';
import { type HubFixture, startTestHub } from './hub-fixture.ts';

export interface SecureHub {
  readonly fixture: HubFixture;
  /** Of its API. */
  readonly url: string;
  /** Speaks as this machine's admin. */
  readonly admin: AdminClient;
  token(pool: string, more?: { readonly uses?: number; readonly ttlMs?: number }): Promise<string>;
  enrol(
    node: string,
    more: Omit<EnrollBody, 'node' | 'request'> & { readonly key?: NodeKey },
  ): Promise<TestNode>;
  close(): Promise<void>;
}

/** A key and the request for its certificate, PEM. */
export interface NodeKey {
  readonly key: string;
  readonly request: string;
}

/** A node that has been let in. */
export interface TestNode extends NodeKey {
  readonly issued: Issued;
}

export async function startSecureHub(
  init: {
    readonly trust?: WrittenTrust;
    readonly files?: Record<string, string>;
    readonly settings?: Partial<HubSettings>;
    /** Already filled; it is left alone at the end. */
    readonly data?: string;
  } = {},
): Promise<SecureHub> {
  const fixture = await startTestHub({
    ...(init.files === undefined ? {} : { files: init.files }),
    ...(init.data === undefined ? {} : { data: init.data }),
    settings: { insecure: false, trust: trustOf(init.trust), ...init.settings },
  });
  const url = (): string => `https://${fixture.hub.api}`;
  const admin = async (): Promise<AdminClient> =>
    new AdminClient({
      url: url(),
      signal: new AbortController().signal,
      trust: { roots: readRoots(await readFile(path.join(fixture.data, 'trust/ca.pem'), 'utf8')) },
      token: (await readFile(path.join(fixture.data, 'admin-token'), 'utf8')).trim(),
    });
  let client = await admin();
  const restart = fixture.restart.bind(fixture);
  fixture.restart = async () => {
    await restart();
    client = await admin();
  };
  const start = fixture.start.bind(fixture);
  fixture.start = async (port) => {
    await start(port);
    client = await admin();
  };
  return {
    fixture,
    get url() {
      return url();
    },
    get admin() {
      return client;
    },
    async token(pool, more = {}) {
      return (await client.call<JoinTokenMade>('POST', '/v1/tokens', { pool, ...more })).token;
    },
    async enrol(node, { key, ...more }) {
      const pair = key ?? (await makeRequest(node));
      const issued = await enrolAt(url(), { node, request: pair.request, ...more });
      return { ...pair, issued };
    },
    close: () => fixture.close(),
  };
}

/** What a node asks; whether it is the right hub is not looked at here. */
export function enrolAt(url: string, body: EnrollBody): Promise<Issued> {
  const call = { tls: {}, admit: () => undefined, signal: new AbortController().signal };
  return new HubClient({ clock: systemClock }, { url }).enroll(body, call);
}

/** With the node's present certificate. */
export async function renewAt(url: string, node: TestNode, next?: NodeKey): Promise<TestNode> {
  const pair = next ?? (await makeRequest('renewed'));
  const tls: SecureContextOptions = { key: node.key, cert: node.issued.certificate };
  const call = { tls, admit: () => undefined, signal: new AbortController().signal };
  const issued = await new HubClient({ clock: systemClock }, { url }).renew({ request: pair.request }, call);
  return { ...pair, issued };
}
