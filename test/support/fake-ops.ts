import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';

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
  readonly #server: Server;

  constructor() {
    this.#server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      const { method, url, headers } = request;
      this.asked.push({ route: `${method} ${url}`, authorization: headers.authorization, body });
      await this.answer(response);
    });
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  /** `127.0.0.1:port` */
  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('it does not listen');
    return `127.0.0.1:${address.port}`;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

export const jsonAnswer =
  (status: number, value: unknown): OpsAnswer =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
