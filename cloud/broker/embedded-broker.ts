import { randomBytes, timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import { Aedes, type AedesPublishPacket, type Client } from 'aedes';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { MAX_MESSAGE_BYTES, parseTopic } from '../../shared/wire/topics.ts';
import { FrameMeter } from './frame-meter.ts';

/** Room for the topic and the header around the largest payload. */
const MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 1024;
const MAX_CONNECTIONS = 12_000;
/** An agent has seven filters. */
const MAX_SUBSCRIPTIONS = 32;
const CONNECT_TIMEOUT_MS = 10_000;
/** Longer silences than this are not promised to any client, seconds. */
const KEEPALIVE_LIMIT = 600;

export interface EmbeddedBrokerInit {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly maxConnections?: number;
}

/** Who may use the broker as the hub does: agents may not speak for it. */
export interface HubLogin {
  readonly url: string;
  readonly username: string;
  readonly password: string;
}

/**
 * The broker in the hub's own process. It serves this project's topics only: agents publish what nodes say, the hub's
 * own link alone publishes what pools are told.
 */
export class EmbeddedBroker implements Startable {
  readonly name = 'broker';
  readonly #log: Logger;
  readonly #init: EmbeddedBrokerInit;
  readonly #password = randomBytes(24).toString('base64url');
  readonly #sockets = new Set<net.Socket>();
  readonly #hubClients = new WeakSet<Client>();
  readonly #subscriptions = new WeakMap<Client, Set<string>>();
  #server: net.Server | undefined;
  #aedes: Aedes | undefined;
  #refused = 0;

  constructor(components: { readonly log: Logger }, init: EmbeddedBrokerInit) {
    this.#log = components.log;
    this.#init = init;
  }

  /** @throws the system's error when the address cannot be bound */
  async start(): Promise<void> {
    const aedes = await Aedes.createBroker({
      connectTimeout: CONNECT_TIMEOUT_MS,
      keepaliveLimit: KEEPALIVE_LIMIT,
      maxInflightInbound: 16,
      maxTopicLevels: 8,
      preConnect: (_client, packet, callback) => {
        // A session kept for an absent client is a queue without an owner.
        if (packet.clean === false) callback(new Error('only clean sessions are served'), false);
        else callback(null, true);
      },
      authenticate: (client, username, password, done) => {
        if (username === 'hub') {
          const right = this.#isPassword(password);
          if (right) this.#hubClients.add(client);
          done(null, right);
        } else {
          done(null, true);
        }
      },
      authorizePublish: (client, packet, callback) => {
        callback(this.#mayPublish(client, packet) ? null : new Error(`no right to publish ${packet.topic}`));
      },
      authorizeSubscribe: (client, subscription, callback) => {
        // Refused in the SUBACK; the connection lives on.
        callback(null, this.#maySubscribe(client, subscription.topic) ? subscription : null);
      },
    });
    const onError = (client: Client | null, error: Error): void => {
      this.#log.debug({ client: client?.id, reason: describeError(error) }, 'broker client failed');
    };
    aedes.on('clientError', onError);
    aedes.on('connectionError', onError);
    this.#aedes = aedes;
    this.#server = await this.#listen(aedes);
  }

  async stop(): Promise<void> {
    const server = this.#server;
    const aedes = this.#aedes;
    this.#server = undefined;
    this.#aedes = undefined;
    const closed = new Promise<void>((resolve) =>
      server === undefined ? resolve() : server.close(() => resolve()),
    );
    if (aedes !== undefined) await new Promise<void>((resolve) => aedes.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Where it listens, `host:port`. */
  get address(): string {
    const address = this.#server?.address();
    if (address === null || address === undefined || typeof address === 'string') return '';
    return address.family === 'IPv6'
      ? `[${address.address}]:${address.port}`
      : `${address.address}:${address.port}`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  get login(): HubLogin {
    const anywhere = /^(0\.0\.0\.0|\[::\]):/;
    const url = `mqtt://${this.address.replace(anywhere, '127.0.0.1:')}`;
    return { url, username: 'hub', password: this.#password };
  }

  #listen(aedes: Aedes): Promise<net.Server> {
    const max = this.#init.maxConnections ?? MAX_CONNECTIONS;
    const server = net.createServer((socket) => {
      if (this.#sockets.size >= max) {
        if (this.#refused++ % 1_000 === 0) {
          this.#log.warn({ connections: max, refused: this.#refused }, 'broker is full, connection refused');
        }
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => socket.destroy());
      aedes.handle(socket);
      // After the broker's own `readable` listener, which decides the flow; this one sees the bytes before the parser.
      const meter = new FrameMeter(MAX_PACKET_BYTES);
      socket.on('data', (chunk: Buffer) => {
        if (!meter.accept(chunk)) socket.destroy(new TidepoolError('INVALID_ARGUMENT', 'packet too large'));
      });
    });
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: this.#init.host, port: this.#init.port }, () => {
        server.off('error', reject);
        server.on('error', (error) => this.#log.error({ err: error }, 'broker socket failed'));
        resolve(server);
      });
    });
  }

  #isPassword(given: Readonly<Buffer | undefined>): boolean {
    const right = Buffer.from(this.#password);
    return given !== undefined && given.length === right.length && timingSafeEqual(given, right);
  }

  #mayPublish(
    client: Client | null,
    packet: Pick<AedesPublishPacket, 'topic' | 'payload' | 'retain'>,
  ): boolean {
    if (client === null || this.#hubClients.has(client)) return true;
    const topic = parseTopic(packet.topic);
    const ofNode = topic?.kind === 'birth' || topic?.kind === 'death' || topic?.kind === 'report';
    return ofNode && packet.retain !== true && packet.payload.length <= MAX_MESSAGE_BYTES;
  }

  #maySubscribe(client: Client, filter: string): boolean {
    if (!filter.startsWith('tidepool/v1/')) return false;
    const own = this.#subscriptions.get(client) ?? new Set();
    if (own.size >= MAX_SUBSCRIPTIONS && !own.has(filter)) return false;
    own.add(filter);
    this.#subscriptions.set(client, own);
    return true;
  }
}
