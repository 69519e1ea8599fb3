import type { Socket } from 'node:net';

interface HandshakeQueueInit {
  readonly max: number;
  readonly maxPerAddress: number;
}

/**
 * Connections that have not shown who they are. When they are too many, in all or of one address, the oldest makes room:
 * an honest handshake takes some ms, so what is held open for nothing goes first.
 */
export class HandshakeQueue {
  readonly #init: HandshakeQueueInit;
  /** By remote address and port; of these maps the first entry is the oldest. */
  readonly #pending = new Map<string, Socket>();
  readonly #byAddress = new Map<string, Map<string, Socket>>();
  #dropped = 0;

  constructor(init: HandshakeQueueInit) {
    this.#init = init;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Closed to make room. */
  get dropped(): number {
    return this.#dropped;
  }

  add(socket: Socket): void {
    const { remoteAddress: address, remotePort: port } = socket;
    // Gone before it was looked at.
    if (address === undefined || port === undefined) return;
    const key = keyOf(address, port);
    const same = this.#byAddress.get(address) ?? new Map<string, Socket>();
    if (same.size >= this.#init.maxPerAddress) this.#drop(same);
    else if (this.#pending.size >= this.#init.max) this.#drop(this.#pending);
    this.#byAddress.set(address, same.set(key, socket));
    this.#pending.set(key, socket);
    socket.once('close', () => {
      if (this.#pending.get(key) === socket) this.done(address, port);
    });
  }

  /** It has shown something, or is gone. */
  done(address: string | undefined, port: number | undefined): void {
    if (address === undefined || port === undefined) return;
    const key = keyOf(address, port);
    this.#pending.delete(key);
    const same = this.#byAddress.get(address);
    same?.delete(key);
    if (same?.size === 0) this.#byAddress.delete(address);
  }

  #drop(from: ReadonlyMap<string, Socket>): void {
    const [oldest] = from.values();
    if (oldest === undefined) return;
    this.#dropped++;
    this.done(oldest.remoteAddress, oldest.remotePort);
    oldest.destroy();
  }
}

function keyOf(address: string, port: number): string {
  return `${address} ${port}`;
}
