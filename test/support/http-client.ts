import { once } from 'node:events';
import { type Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:net';

/** An answer with its headers exactly as they came. */
export interface HttpAnswer {
  readonly status: number;
  /** Names as written by the server; `Date` is left out. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** False when the connection died before Content-Length was reached. */
  readonly complete: boolean;
}

export interface HttpAsk {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly agent?: Agent;
}

/** One request on a connection of its own, unless an agent is given. */
export function ask(port: number, path: string, init: HttpAsk = {}): Promise<HttpAnswer> {
  const { agent, headers = {}, method = 'GET' } = init;
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path, method, headers, agent: agent ?? false });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      // A body cut short shows as an error here, which `complete` tells.
      response.on('error', () => undefined);
      response.once('close', () => {
        const named: Record<string, string> = {};
        for (let index = 0; index < response.rawHeaders.length; index += 2) {
          const name = response.rawHeaders[index] ?? '';
          if (name !== 'Date') named[name] = response.rawHeaders[index + 1] ?? '';
        }
        resolve({
          status: response.statusCode ?? 0,
          headers: named,
          body: Buffer.concat(chunks),
          complete: response.complete,
        });
      });
    });
    request.end();
  });
}

/** Sends bytes as they are and gives back all that comes until the server ends the connection. */
export async function askRaw(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  socket.write(text, 'latin1');
  await closed;
  return Buffer.concat(chunks).toString('latin1');
}
