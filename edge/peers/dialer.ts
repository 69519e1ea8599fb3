import { connect as connectPlain, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { refused } from '../../shared/trust/certificate.ts';
import { clientTls, TrustedSockets } from '../../shared/trust/tls.ts';
import type { NodePrincipal, TlsIdentity } from '../../shared/trust/types.ts';
import { CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS } from './constants.ts';

/** Who has to be at the other end: one node of this pool, any node of it, or a node of another pool. */
export type Expected =
  | { readonly kind: 'member'; readonly node: NodeName }
  | { readonly kind: 'any-member' }
  | { readonly kind: 'other-pool' };

export interface Target {
  readonly host: string;
  readonly port: number;
  readonly expected: Expected;
}

/** Called once: with who is there, or why nobody is who should be. */
export type Dialed = (error: Error | undefined, principal?: NodePrincipal) => void;

interface DialerInit {
  readonly pool: PoolName;
  /** Address to dial from, where the host has several. */
  readonly localAddress?: string | undefined;
}

/** Connections to neighbours. With an identity they are TLS, and stand only when the right one is at the other end. */
export class Dialer {
  readonly secure: boolean;
  readonly #identity: TlsIdentity | undefined;
  readonly #init: DialerInit;
  readonly #sockets: TrustedSockets | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  /** Kept: making one costs as much as a handshake. */
  #context: SecureContext | undefined;
  #certificate: string | undefined;
  #generation = 0;

  constructor(identity: TlsIdentity | undefined, init: DialerInit) {
    this.#identity = identity;
    this.#init = init;
    this.secure = identity !== undefined;
    this.#sockets = identity === undefined ? undefined : new TrustedSockets(identity);
    this.#certificate = identity?.current().cert;
    this.#stop = identity?.onChange(() => this.#changed()) ?? (() => undefined);
  }

  /** Grows with each new certificate of this node: what was dialed before shows an older one. */
  get generation(): number {
    return this.#generation;
  }

  /** Called when connections should be made anew, once they are free; the answer ends that. */
  onRenewed(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @param onread where bytes are put, for who reads without streams */
  dial(target: Target, onread: OnReadOpts | undefined, done: Dialed): Socket {
    const { host, port, expected } = target;
    const { localAddress } = this.#init;
    const where = {
      host,
      port,
      ...(localAddress === undefined ? {} : { localAddress }),
      ...(onread === undefined ? {} : { onread }),
    };
    const identity = this.#identity;
    if (identity === undefined) {
      const socket = connectPlain({ ...where, noDelay: true });
      once(socket, 'connect', CONNECT_TIMEOUT_MS, done, () => done(undefined));
      return socket;
    }
    this.#context ??= createSecureContext(clientTls(identity));
    const options = { ...where, secureContext: this.#context, rejectUnauthorized: false };
    const socket = connectTls({ ...options, checkServerIdentity: () => undefined });
    socket.setNoDelay(true);
    const finish = once(socket, 'secureConnect', HANDSHAKE_TIMEOUT_MS, done, () => {
      try {
        done(undefined, this.#admit(socket, expected));
      } catch (error) {
        finish(unfit(error, host, port));
      }
    });
    // An address where nobody listens is told apart from one that is slow to show who it is.
    const timer = setTimeout(() => finish(late('connection', CONNECT_TIMEOUT_MS)), CONNECT_TIMEOUT_MS);
    socket.once('connect', () => clearTimeout(timer));
    socket.once('close', () => clearTimeout(timer));
    return socket;
  }

  close(): void {
    this.#stop();
    this.#sockets?.close();
    this.#listeners.clear();
  }

  #admit(socket: TLSSocket, expected: Expected): NodePrincipal {
    const principal = this.#sockets?.admit(socket);
    if (principal?.kind !== 'node') throw refused('it is the hub’s, which is nobody’s neighbour');
    const { node, pool } = principal;
    if (expected.kind === 'other-pool') {
      if (pool === this.#init.pool) throw refused(`${node} is of this pool, and no upstream of it`);
    } else if (pool !== this.#init.pool) {
      throw refused(`${node} is of pool ${pool}, not of ${this.#init.pool}`);
    } else if (expected.kind === 'member' && node !== expected.node) {
      throw refused(`it is ${node}'s, and ${expected.node} was meant`);
    }
    return principal;
  }

  #changed(): void {
    this.#context = undefined;
    const { cert } = this.#identity?.current() ?? {};
    if (cert === this.#certificate) return;
    this.#certificate = cert;
    this.#generation++;
    for (const listener of this.#listeners) listener();
  }
}

/** Waits for one event within a time; whichever way it ends, only once. The answer ends it by an error. */
function once(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  ms: number,
  done: Dialed,
  arrived: () => void,
): (error: Error) => void {
  let over = false;
  const timer = setTimeout(() => finish(late(event === 'connect' ? 'connection' : 'handshake', ms)), ms);
  const finish = (error: Error): void => {
    clearTimeout(timer);
    if (!over) done(error);
    over = true;
    socket.destroy();
  };
  socket.once(event, () => {
    clearTimeout(timer);
    if (over) return;
    arrived();
    over = true;
  });
  socket.once('error', finish);
  socket.once('close', () => finish(new Error('the connection was closed')));
  return finish;
}

function late(what: string, ms: number): Error {
  return new Error(`no ${what} within ${ms} ms`);
}

function unfit(error: unknown, host: string, port: number): TidepoolError {
  const message = `whoever is at ${host}:${port} is not who should be there: ${describeError(error)}`;
  return new TidepoolError('PEER_UNREACHABLE', message, { cause: error });
}

/** What ended a connection, as who asked over it is told: also where a certificate that was good is no more. */
export function connectionFailed(cause: unknown): TidepoolError {
  if (isTidepoolError(cause, 'PEER_UNREACHABLE')) return cause;
  const message = `the neighbour's connection failed: ${describeError(cause)}`;
  return new TidepoolError('PEER_UNREACHABLE', message, { cause });
}
