import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface AskedOfOps {
  readonly route: string;
  readonly authorization: string | undefined;
  readonly body: string;
}
export type OpsAnswer = (response: ServerResponse) => void | Promise<void>;

/** Stands where an agent's ops server would, records what it is asked, and answers as told. */
export class FakeOps {
  readonly asked: AskedOfOps[] = [];
  answer: OpsAnswer = (response) => void response.writeHead(500).end();
  /** A data directory with the agent's socket in it. */
  readonly data = mkdtempSync(join(tmpdir(), 'tidepool-ops-'));
  readonly #server: Server;
  readonly #admin: Server;

  constructor() {
    const listener: RequestListener = async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      const { method, url, headers } = request;
      this.asked.push({ route: `${method} ${url}`, authorization: headers.authorization, body });
      await this.answer(response);
    };
    this.#server = createServer(listener);
    this.#admin = createServer(listener);
  }

  async start(): Promise<void> {
    mkdirSync(this.data, { recursive: true });
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#admin.listen(join(this.data, 'ops.sock'));
    await once(this.#admin, 'listening');
  }

  /** `127.0.0.1:port` */
  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('it does not listen');
    return `127.0.0.1:${address.port}`;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    for (const server of [this.#server, this.#admin]) {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    }
    rmSync(this.data, { recursive: true, force: true });
  }
}

export const jsonAnswer =
  (status: number, value: unknown): OpsAnswer =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
