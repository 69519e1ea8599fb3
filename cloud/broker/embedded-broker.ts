import { randomBytes, timingSafeEqual } from 'node:crypto';
import type net from 'node:net';
import { Aedes, type AedesPublishPacket, type Client, type ConnectPacket } from 'aedes';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { FrameMeter } from '../../shared/mqtt/frame-meter.ts';
import { MAX_ENVELOPE_BYTES } from '../../shared/trust/envelope.ts';
import type { Principal, TlsIdentity } from '../../shared/trust/types.ts';
import { MAX_MESSAGE_BYTES, parseTopic } from '../../shared/wire/topics.ts';
import { Complaints } from './complaints.ts';
import { FloodGuard, type FloodLimits } from './flood-guard.ts';
import { Front } from './front.ts';
import { connectRefusal, mayPublish, maySubscribe } from './rights.ts';

/** Room for the topic and the header around the largest payload. */
const MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 1024;
const MAX_CONNECTIONS = 12_000;
/** An agent has eight filters. */
const MAX_SUBSCRIPTIONS = 32;
const CONNECT_TIMEOUT_MS = 10_000;
/** Longer silences than this are not promised to any client, seconds. */
const KEEPALIVE_LIMIT = 600;
/** An agent reports twice a second at most. */
const MESSAGES: FloodLimits = { perSecond: 10, burst: 100, waiting: 100, patienceMs: 30_000 };
/** Of any kind: a node acknowledges what its pool is told, which is a thousand messages at once at most. */
const PACKETS: FloodLimits = { perSecond: 200, burst: 4_096, waiting: 0, patienceMs: 0 };
/** What is remembered of nodes that send: a new connection is no new start. */
const MAX_GUARDS = 20_000;
/** CONNACK of MQTT 3.1.1. */
const ID_REJECTED = 2;

export interface EmbeddedBrokerInit {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly maxConnections?: number;
  /** Connections without a certificate yet, in all and of one address. */
  readonly maxPending?: number;
  readonly maxPendingPerAddress?: number;
  readonly handshakeMs?: number;
  readonly connectMs?: number;
  /** Of one node. */
  readonly messages?: FloodLimits;
}

/** Who may use a broker without certificates as the hub does: agents may not speak for it. */
export interface HubLogin {
  readonly url: string;
  readonly username: string;
  readonly password: string;
}

/**
 * The broker in the hub's own process. It serves this project's topics only: agents publish what nodes say, the hub's
 * own link alone publishes what pools are told. With an identity a certificate says who is who, and nothing else does.
 */
export class EmbeddedBroker implements Startable {
  readonly name = 'broker';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #secure: boolean;
  readonly #init: EmbeddedBrokerInit;
  readonly #password = randomBytes(24).toString('base64url');
  readonly #front: Front;
  readonly #hubClients = new WeakSet<Client>();
  /** By the connection: there before any MQTT is. */
  readonly #principals = new WeakMap<object, Principal>();
  readonly #refusals = new WeakMap<Client, string>();
  readonly #subscriptions = new WeakMap<Client, Set<string>>();
  readonly #guards = new Map<NodeName, FloodGuard>();
  readonly #complaints: Complaints;
  readonly #waits = new Set<() => void>();
  #aedes: Aedes | undefined;

  constructor(
    components: {
      readonly log: Logger;
      readonly clock?: Clock;
      /** Undefined: plain connections, and whoever comes is a node. */
      readonly identity?: TlsIdentity | undefined;
    },
    init: EmbeddedBrokerInit,
  ) {
    const { log, clock = systemClock, identity } = components;
    this.#clock = clock;
    this.#log = log;
    this.#secure = identity !== undefined;
    this.#init = init;
    this.#complaints = new Complaints({ clock, log }, 'a client of the broker is refused');
    this.#front = new Front(
      { clock, log, identity },
      { ...init, maxConnections: init.maxConnections ?? MAX_CONNECTIONS },
      (socket, principal) => this.#serve(socket, principal),
    );
  }

  /** @throws the system's error when the address cannot be bound */
  async start(): Promise<void> {
    const aedes = await Aedes.createBroker({
      connectTimeout: this.#init.connectMs ?? CONNECT_TIMEOUT_MS,
      keepaliveLimit: KEEPALIVE_LIMIT,
      maxInflightInbound: 16,
      maxTopicLevels: 8,
      preConnect: (client, packet, callback) => {
        const { clean } = packet;
        // A session kept for an absent client is a queue without an owner.
        if (clean === false) callback(new Error('only clean sessions are served'), false);
        else {
          this.#lookAt(client, packet);
          callback(null, true);
        }
      },
      authenticate: (client, username, password, done) => {
        const refusal = this.#refusals.get(client);
        if (refusal !== undefined) {
          done(Object.assign(new Error(refusal), { returnCode: ID_REJECTED }), false);
        } else if (this.#secure || username !== 'hub') {
          done(null, true);
        } else {
          const right = this.#isPassword(password);
          if (right) this.#hubClients.add(client);
          done(null, right);
        }
      },
      authorizePublish: (client, packet, callback) => this.#publish(client, packet, callback),
      authorizeSubscribe: (client, subscription, callback) => {
        // Refused in the SUBACK; the connection lives on.
        const answer = (): void =>
          callback(null, this.#maySubscribe(client, subscription.topic) ? subscription : null);
        this.#paced(client, answer, callback);
      },
    });
    const onError = (client: Client | null, error: Error): void => {
      this.#log.debug({ client: client?.id, reason: describeError(error) }, 'broker client failed');
    };
    aedes.on('clientError', onError);
    aedes.on('connectionError', onError);
    this.#aedes = aedes;
    await this.#front.listen();
  }

  async stop(): Promise<void> {
    const aedes = this.#aedes;
    this.#aedes = undefined;
    const closed = this.#front.close();
    for (const cancel of this.#waits) cancel();
    if (aedes !== undefined) await new Promise<void>((resolve) => aedes.close(() => resolve()));
    this.#front.dropAll();
    await closed;
  }

  /** Where it listens, `host:port`. */
  get address(): string {
    return this.#front.address;
  }

  get connections(): number {
    return this.#front.connections;
  }

  /** Connections and clients that were refused, or thrown out for what they sent. */
  get refused(): number {
    return this.#front.refused + this.#complaints.total;
  }

  /** For the hub in the same process. */
  get url(): string {
    const anywhere = /^(0\.0\.0\.0|\[::\]):/;
    return `${this.#secure ? 'mqtts' : 'mqtt'}://${this.address.replace(anywhere, '127.0.0.1:')}`;
  }

  /** For the hub's link where there are no certificates. */
  get login(): HubLogin {
    return { url: this.url, username: 'hub', password: this.#password };
  }

  #serve(socket: net.Socket, principal: Principal | undefined): void {
    const aedes = this.#aedes;
    if (aedes === undefined) {
      socket.destroy();
      return;
    }
    if (principal !== undefined) this.#principals.set(socket, principal);
    aedes.handle(socket);
    // After the broker's own `readable` listener, which decides the flow; this one sees the bytes before the parser.
    const isHub = principal?.kind === 'hub' || principal === undefined;
    const meter = new FrameMeter(isHub ? MAX_PACKET_BYTES + MAX_ENVELOPE_BYTES : MAX_PACKET_BYTES);
    const packets = principal?.kind === 'node' ? new FloodGuard(this.#clock, PACKETS) : undefined;
    let seen = 0;
    socket.on('data', (chunk: Buffer) => {
      const fits = meter.accept(chunk);
      const count = meter.packets - seen;
      seen = meter.packets;
      if (!fits) this.#throwOut(socket, 'packet too large');
      else if (packets !== undefined && count > 0 && packets.take(count) === undefined)
        this.#throwOut(socket, 'packets come too fast');
    });
  }

  #throwOut(socket: net.Socket, why: string): void {
    const principal = this.#principals.get(socket);
    const who = principal?.kind === 'node' ? principal.node : principal?.kind;
    this.#complaints.tell({ client: who, from: socket.remoteAddress }, why);
    socket.destroy(new TidepoolError('INVALID_ARGUMENT', why));
  }

  #lookAt(client: Client, { clientId, will }: ConnectPacket): void {
    const principal = this.#principalOf(client);
    if (principal === undefined) return;
    if (principal.kind === 'hub') this.#hubClients.add(client);
    const refusal = connectRefusal(principal, { clientId, will });
    if (refusal === undefined) return;
    this.#complaints.tell({ client: principal.kind }, refusal);
    this.#refusals.set(client, refusal);
  }

  #principalOf(client: Client): Principal | undefined {
    return this.#principals.get(client.conn);
  }

  #isPassword(given: Readonly<Buffer | undefined>): boolean {
    const right = Buffer.from(this.#password);
    return given !== undefined && given.length === right.length && timingSafeEqual(given, right);
  }

  #publish(
    client: Client | null,
    packet: Pick<AedesPublishPacket, 'topic' | 'payload' | 'retain'>,
    callback: (error?: Error | null) => void,
  ): void {
    if (client === null) {
      callback(null);
      return;
    }
    if (!this.#mayPublish(client, packet)) {
      this.#complaints.tell(
        { client: client.id, topic: packet.topic.slice(0, 200) },
        'no right to publish it',
      );
      callback(new Error(`no right to publish ${packet.topic}`));
      return;
    }
    // The will of a connection that is gone has nobody to slow down.
    if (client.closed) callback(null);
    else this.#paced(client, () => callback(null), callback);
  }

  #mayPublish(client: Client, packet: Pick<AedesPublishPacket, 'topic' | 'payload' | 'retain'>): boolean {
    const principal = this.#principalOf(client);
    if (principal !== undefined) return mayPublish(principal, packet);
    if (this.#hubClients.has(client)) return true;
    const topic = parseTopic(packet.topic);
    const ofNode = topic?.kind === 'birth' || topic?.kind === 'death' || topic?.kind === 'report';
    return ofNode && packet.retain !== true && packet.payload.length <= MAX_MESSAGE_BYTES;
  }

  #maySubscribe(client: Client, filter: string): boolean {
    const principal = this.#principalOf(client);
    if (principal !== undefined && !maySubscribe(principal, filter)) return false;
    if (!filter.startsWith('tidepool/v1/')) return false;
    const own = this.#subscriptions.get(client) ?? new Set();
    if (own.size >= MAX_SUBSCRIPTIONS && !own.has(filter)) return false;
    own.add(filter);
    this.#subscriptions.set(client, own);
    return true;
  }

  /** The broker reads no more of a connection before it has its answer: waiting slows the sender down. */
  #paced(client: Client, go: () => void, refuse: (error: Error) => void): void {
    const principal = this.#principalOf(client);
    if (principal?.kind !== 'node') {
      go();
      return;
    }
    const waitMs = this.#guardOf(principal.node).take();
    if (waitMs === 0) {
      go();
    } else if (waitMs === undefined) {
      this.#complaints.tell({ client: principal.node }, 'messages come too fast');
      refuse(new Error('messages come too fast'));
    } else {
      const cancel = this.#clock.after(waitMs, () => {
        this.#waits.delete(cancel);
        if (!client.closed) go();
      });
      this.#waits.add(cancel);
    }
  }

  #guardOf(node: NodeName): FloodGuard {
    const guard = this.#guards.get(node) ?? new FloodGuard(this.#clock, this.#init.messages ?? MESSAGES);
    this.#guards.delete(node);
    this.#guards.set(node, guard);
    if (this.#guards.size > MAX_GUARDS) {
      const [oldest] = this.#guards.keys();
      if (oldest !== undefined) this.#guards.delete(oldest);
    }
    return guard;
  }
}
