import { Agent, type buildConnector, type Dispatcher, Pool } from 'undici';
import type { NodePrincipal } from '../../shared/trust/types.ts';
import {
  CLIENT_KEEP_ALIVE_MS,
  CONNECT_TIMEOUT_MS,
  MAX_MEMBERS,
  QUESTION_CONNECTIONS,
  QUESTION_TIMEOUT_MS,
  SECURE_QUESTION_CONNECTIONS,
} from './constants.ts';
import type { Dialer, Expected } from './dialer.ts';
import { splitAddress } from './wire/members.ts';

/** Where a question goes, and over what. */
export interface QuestionRoute {
  readonly dispatcher: Dispatcher;
  readonly origin: string;
}

/** A way to somebody whose name is to be found out: over one connection, so that it is clear who has answered. */
export interface NamingRoute extends QuestionRoute {
  /** Who is there; undefined without TLS. */
  named(): NodePrincipal | undefined;
  close(): void;
}

const TIMING = {
  pipelining: 1,
  keepAliveTimeout: CLIENT_KEEP_ALIVE_MS,
  headersTimeout: 4 * QUESTION_TIMEOUT_MS,
  bodyTimeout: 4 * QUESTION_TIMEOUT_MS,
} as const;

/**
 * Kept connections for small questions. With TLS each neighbour has its own, which stand only while it is the one that was
 * meant; they are made anew when this node shows a new certificate, and what is under way on the old ones goes on.
 */
export class QuestionAgents {
  readonly #dialer: Dialer;
  readonly #plain: Agent | undefined;
  /** The one used last is the last. */
  readonly #pools = new Map<string, Pool>();
  readonly #stop: () => void;

  constructor(dialer: Dialer, init: { readonly localAddress?: string | undefined }) {
    this.#dialer = dialer;
    const { localAddress } = init;
    this.#plain = dialer.secure
      ? undefined
      : new Agent({
          ...TIMING,
          connections: QUESTION_CONNECTIONS,
          allowH2: false,
          connect: {
            timeout: CONNECT_TIMEOUT_MS,
            ...(localAddress === undefined ? {} : { localAddress }),
          },
        });
    this.#stop = dialer.onRenewed(() => this.#retireAll());
  }

  to(address: string, expected: Expected): QuestionRoute {
    if (this.#plain !== undefined) return { dispatcher: this.#plain, origin: `http://${address}` };
    const origin = `https://${address}`;
    const key = `${expected.kind === 'member' ? expected.node : expected.kind} ${address}`;
    const pool =
      this.#pools.get(key) ?? this.#pool(address, expected, SECURE_QUESTION_CONNECTIONS, () => undefined);
    this.#pools.delete(key);
    this.#pools.set(key, pool);
    if (this.#pools.size > MAX_MEMBERS) {
      const [oldest] = this.#pools;
      if (oldest !== undefined) this.#retire(...oldest);
    }
    return { dispatcher: pool, origin };
  }

  /** To any member of this pool; the caller closes it. */
  naming(address: string): NamingRoute {
    if (this.#plain !== undefined) {
      return {
        dispatcher: this.#plain,
        origin: `http://${address}`,
        named: () => undefined,
        close: () => undefined,
      };
    }
    let found: NodePrincipal | undefined;
    const pool = this.#pool(address, { kind: 'any-member' }, 1, (principal) => {
      found = principal;
    });
    return {
      dispatcher: pool,
      origin: `https://${address}`,
      named: () => found,
      close: () => void pool.destroy(),
    };
  }

  async close(): Promise<void> {
    this.#stop();
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all([this.#plain?.destroy(), ...pools.map((pool) => pool.destroy())]);
  }

  #pool(
    address: string,
    expected: Expected,
    connections: number,
    tell: (principal: NodePrincipal | undefined) => void,
  ): Pool {
    const target = { ...splitAddress(address), expected };
    const connect: buildConnector.connector = (_, callback) => {
      const socket = this.#dialer.dial(target, undefined, (error, principal) => {
        tell(principal);
        if (error === undefined) callback(null, socket);
        else callback(error, null);
      });
      // Whoever gets the socket listens for its errors; what comes after a refusal is nobody's.
      socket.on('error', () => undefined);
    };
    return new Pool(`https://${address}`, { ...TIMING, connections, connect });
  }

  #retireAll(): void {
    for (const [key, pool] of [...this.#pools]) this.#retire(key, pool);
  }

  /** Takes no more questions; ends by itself when those it has are answered, which time-outs bound. */
  #retire(key: string, pool: Pool): void {
    this.#pools.delete(key);
    pool.close().catch(() => pool.destroy());
  }
}
