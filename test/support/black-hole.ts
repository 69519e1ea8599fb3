import { createServer, type Server, type Socket } from 'node:net';

/** Takes every connection and says nothing, as a cloud does behind a firewall that swallows. */
export class BlackHole {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Connections so far. */
  taken = 0;

  constructor() {
    this.#server = createServer((socket) => {
      this.taken++;
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.resume();
    });
  }

  /** @param port 0 picks a free one */
  async start(host = '127.0.0.1', port = 0): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => resolve());
    });
  }

  /** `host:port` */
  get address(): string {
    const address = this.#server.address();
    return address === null || typeof address === 'string' ? '' : `${address.address}:${address.port}`;
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
