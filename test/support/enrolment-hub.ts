/** The hub's side of enrolment and renewal, as little of it as an agent sees. */
import { createServer, type Server } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { issueNode } from '../../cloud/trust/issue.ts';
import { type ErrorCode, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { formatJoinToken } from '../../shared/trust/join-token.ts';
import { serverTls } from '../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { freePort } from './free-port.ts';
import { DAY_MS, type TestAuthority } from './trust.ts';

export interface HubRequest {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** DER of what the client has shown. */
  readonly shown: Buffer | undefined;
}

const SECRET = 's'.repeat(32);

export class EnrolmentHub {
  readonly requests: HubRequest[] = [];
  /** Wall clock of the authority, ms. */
  now: () => number = () => Date.now();
  lifetimeMs = 90 * DAY_MS;
  pool = 'shop-1';
  trustVersion = 1;
  revoked: string[] = [];
  /** Of the answer; the authority's own when left out. */
  roots: string | undefined;
  /** Answers with this instead. */
  refuse: ErrorCode | undefined;
  /** The request is heard, and its answer is lost on the way. */
  deaf = false;
  /** Changes what is answered. */
  twist: (answer: Record<string, unknown>) => Record<string, unknown> = (answer) => answer;
  authority: TestAuthority;
  #server: Server | undefined;
  #port = 0;

  constructor(authority: TestAuthority) {
    this.authority = authority;
  }

  get token(): string {
    return formatJoinToken({ id: 'abcd1234', secret: SECRET, authority: this.authority.keyId });
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  /** The second time it is where it was. */
  async start(identity?: TlsIdentity): Promise<void> {
    const shown = identity ?? (await this.authority.hub());
    const server = createServer(serverTls(shown), (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const certificate = (request.socket as TLSSocket).getPeerX509Certificate();
        const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
        const heard = { path: request.url ?? '', body, shown: certificate?.raw };
        this.requests.push(heard);
        this.#answer(heard).then(
          (answer) => {
            if (this.deaf) request.socket.destroy();
            else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
          },
          (error: unknown) => {
            const { status, code, message } = toTidepoolError(error);
            response.writeHead(status).end(JSON.stringify({ error: { code, message } }));
          },
        );
      });
    });
    server.on('tlsClientError', () => undefined);
    if (this.#port === 0) this.#port = await freePort('127.0.0.1');
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  async #answer({ path, body, shown }: HubRequest): Promise<Record<string, unknown>> {
    if (this.refuse !== undefined) throw new TidepoolError(this.refuse, `the test says ${this.refuse}`);
    let node = 'n1';
    if (path === '/v1/enroll') {
      if (body.token !== this.token && body.serviceAccountToken !== 'account')
        throw new TidepoolError('TOKEN_REFUSED', 'no such token');
      node = String(body.node);
    } else if (shown === undefined) throw new TidepoolError('CERTIFICATE_REFUSED', 'none was shown');
    const certificate = await issueNode(
      this.authority.root,
      String(body.request),
      { node: parseNodeName(node), pool: parsePoolName(this.pool) },
      { now: this.now(), lifetimeMs: this.lifetimeMs },
    );
    return this.twist({
      certificate,
      roots: this.roots ?? this.authority.root.cert,
      pool: this.pool,
      revoked: this.revoked,
      trustVersion: this.trustVersion,
    });
  }
}
