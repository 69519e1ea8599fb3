/**
 * One MQTT 3.1.1 connection that comes back by itself. MQTT.js does the protocol; when to connect, to which broker, and
 * what happens to messages while there is no connection (nothing: they are refused, nothing queues) is decided here.
 */
import type net from 'node:net';
import { type IClientOptions, MqttClient } from 'mqtt';
import type { Clock } from '../clock.ts';
import { describeError, TidepoolError } from '../errors.ts';
import { Backoff } from '../flow/backoff.ts';
import type { Startable } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { MAX_ENVELOPE_BYTES } from '../trust/envelope.ts';
import { TrustedSockets } from '../trust/tls.ts';
import type { TlsIdentity } from '../trust/types.ts';
import { MAX_MESSAGE_BYTES } from '../wire/topics.ts';
import { openStream, parseBrokerUrl } from './broker-stream.ts';
import { FrameMeter } from './frame-meter.ts';
import { isRefusal } from './refusal.ts';
import type {
  MqttSessionComponents,
  MqttSessionHandlers,
  MqttSessionInit,
  MqttSessionState,
} from './types.ts';

export { parseBrokerUrl } from './broker-stream.ts';
export type { MqttFailure, MqttSessionState } from './types.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** A connection that held this long was a good one: the next loss starts the back-off anew. */
const STABLE_MS = 30_000;
/** Silence of this many keepalives is a dead connection, whatever TCP believes. */
const WATCHDOG_KEEPALIVES = 2.5;
/** Publications that wait for their PUBACK. */
const MAX_PENDING = 4_096;
const CLOSE_TIMEOUT_MS = 2_000;
/** Payload, what signs it, topic and header: a broker that sends more talks nonsense. */
const MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES + 1024;

export class MqttSession implements Startable {
  readonly name = 'mqtt';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #init: MqttSessionInit;
  readonly #handlers: MqttSessionHandlers;
  readonly #backoff: Backoff;
  readonly #pending = new Set<(error: TidepoolError) => void>();
  readonly #identity: TlsIdentity | undefined;
  readonly #lookup: MqttSessionComponents['lookup'];
  /** Brokers whose certificate is revoked while we are connected. */
  #trusted: TrustedSockets | undefined;
  #client: MqttClient | undefined;
  #opening: AbortController | undefined;
  #cancelTimer: (() => void) | undefined;
  #cancelStable: (() => void) | undefined;
  /** Left running, it would keep a stopped process alive. */
  #cancelWatch: (() => void) | undefined;
  #session = 0;
  #turn = 0;
  #stopped = true;
  #state: MqttSessionState;

  constructor(components: MqttSessionComponents, init: MqttSessionInit, handlers: MqttSessionHandlers) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#random = components.random ?? Math.random;
    this.#identity = components.identity;
    this.#lookup = components.lookup;
    this.#init = init;
    this.#handlers = handlers;
    this.#backoff = new Backoff({ ...init.backoff, random: this.#random });
    this.#state = { connected: false, since: this.#clock.now(), lastError: undefined };
    for (const url of init.urls) {
      if (parseBrokerUrl(url).secure || this.#identity === undefined) continue;
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `${url} is a plain connection; write mqtts://, or say that this is an insecure set-up`,
      );
    }
  }

  get state(): MqttSessionState {
    return this.#state;
  }

  get connected(): boolean {
    return this.#state.connected;
  }

  /** Resolves at once; the connection comes when it comes. */
  async start(): Promise<void> {
    if (!this.#stopped || this.#init.urls.length === 0) return;
    this.#stopped = false;
    if (this.#identity !== undefined) this.#trusted = new TrustedSockets(this.#identity);
    this.#schedule(this.#random() * this.#init.firstConnectSpreadMs);
  }

  /** Takes leave of the broker, so that the will is not published. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#opening?.abort(notConnected());
    const client = this.#client;
    if (client !== undefined) await this.#leave(client);
    this.#trusted?.close();
  }

  async #leave(client: MqttClient): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => {
        client.end(true);
        resolve();
      });
      client.end(false, () => {
        cancel();
        resolve();
      });
    });
    this.#lost(client, 'stopped');
  }

  /**
   * Resolves once the broker has the message (QoS 1).
   * @throws TidepoolError HUB_UNREACHABLE without a connection or when it is lost before the answer, OVERLOADED
   */
  publish(topic: string, payload: Buffer, options: { readonly retain?: boolean } = {}): Promise<void> {
    const client = this.#client;
    if (client === undefined || !this.connected) return Promise.reject(notConnected());
    const max = this.#identity === undefined ? MAX_MESSAGE_BYTES : MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES;
    if (payload.length > max) {
      const message = `${topic}: ${payload.length} bytes; a message has at most ${max}`;
      return Promise.reject(new TidepoolError('INVALID_ARGUMENT', message));
    }
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new TidepoolError('OVERLOADED', `${MAX_PENDING} messages wait for the broker`));
    }
    return this.#answered((done) =>
      client.publish(topic, payload, { qos: 1, retain: options.retain === true }, (error) => done(error)),
    );
  }

  /** @throws TidepoolError HUB_UNREACHABLE */
  subscribe(filters: readonly string[]): Promise<void> {
    const client = this.#client;
    if (client === undefined || !this.connected) return Promise.reject(notConnected());
    return this.#answered((done) => client.subscribe([...filters], { qos: 1 }, (error) => done(error)));
  }

  /** @throws TidepoolError HUB_UNREACHABLE */
  unsubscribe(filters: readonly string[]): Promise<void> {
    const client = this.#client;
    if (client === undefined || !this.connected) return Promise.reject(notConnected());
    return this.#answered((done) => client.unsubscribe([...filters], (error) => done(error)));
  }

  /** Drops the connection as if the network had; for tests, and for a peer that talks nonsense. */
  drop(): void {
    this.#client?.stream.destroy();
  }

  /** MQTT.js forgets callbacks of a connection that is gone; here every call gets its answer. */
  #answered(send: (done: (error: unknown) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const abandon = (error: TidepoolError): void => {
        this.#pending.delete(abandon);
        reject(error);
      };
      this.#pending.add(abandon);
      send((error) => {
        if (!this.#pending.delete(abandon)) return;
        if (error === null || error === undefined) resolve();
        else reject(new TidepoolError('HUB_UNREACHABLE', `the broker refused: ${describeError(error)}`));
      });
    });
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    this.#cancelTimer?.();
    this.#cancelTimer = this.#clock.after(ms, () => this.#connect());
  }

  #connect(): void {
    const url = this.#init.urls[this.#turn++ % this.#init.urls.length];
    if (url === undefined) return;
    const opening = new AbortController();
    this.#opening = opening;
    const { localAddress, broker } = this.#init;
    openStream(
      { clock: this.#clock, identity: this.#identity, trusted: this.#trusted },
      { url, timeoutMs: CONNECT_TIMEOUT_MS, localAddress, broker, lookup: this.#lookup },
      opening.signal,
    ).then(
      (socket) => this.#speak(socket, url),
      (error: unknown) => {
        const reason = `${url}: ${describeError(error)}`;
        this.#state = { ...this.#state, lastError: reason };
        this.#again(isRefusal(error));
      },
    );
  }

  #speak(socket: net.Socket, url: string): void {
    if (this.#stopped) {
      socket.destroy();
      return;
    }
    const session = this.#session + 1;
    const meter = new FrameMeter(MAX_PACKET_BYTES);
    socket.on('data', (chunk: Buffer) => {
      if (!meter.accept(chunk)) socket.destroy(new TidepoolError('INVALID_ARGUMENT', 'packet too large'));
    });
    const client = new MqttClient(() => socket, clientOptions(this.#init, session));
    this.#client = client;
    let why = `no answer from ${url}`;
    let refused = false;
    client.on('error', (error) => {
      why = `${url}: ${describeError(error)}`;
      refused = isRefusal(error);
    });
    client.on('connect', () => {
      if (this.#client !== client || this.#stopped) return;
      this.#session = session;
      this.#watch(client, url);
      this.#cancelStable = this.#clock.after(STABLE_MS, () => this.#backoff.reset());
      refused = false;
      this.#state = { connected: true, url, since: this.#clock.now(), lastError: undefined };
      this.#log.info({ url, session }, 'connected to the broker');
      this.#handlers.connected(session);
    });
    client.on('message', (topic, payload, packet) => {
      if (this.#client === client) this.#handlers.message(topic, payload, packet.retain);
    });
    client.on('close', () => {
      if (this.#client !== client) return;
      this.#lost(client, this.connected ? `${url}: connection lost` : why);
      this.#again(refused);
    });
  }

  #again(refused: boolean): void {
    if (this.#stopped) return;
    const waitMs = this.#backoff.next();
    const level = this.#backoff.attempts <= 1 ? 'warn' : 'debug';
    this.#log[level](
      { reason: this.#state.lastError, retryInMs: Math.round(waitMs) },
      'no connection to the broker',
    );
    const { lastError: why = 'no connection' } = this.#state;
    this.#handlers.failed?.({ why, refused, retryInMs: waitMs });
    this.#schedule(waitMs);
  }

  #lost(client: MqttClient, reason: string): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#cancelStable?.();
    this.#cancelWatch?.();
    const was = this.connected;
    this.#state = { connected: false, since: was ? this.#clock.now() : this.#state.since, lastError: reason };
    client.removeAllListeners();
    // A late error of the old socket has nobody to tell; without a listener it would end the process.
    client.on('error', () => undefined);
    client.end(true);
    for (const abandon of [...this.#pending]) abandon(notConnected());
    if (was) this.#handlers.disconnected(reason);
  }

  #watch(client: MqttClient, url: string): void {
    const limitMs = this.#init.keepaliveSeconds * 1000 * WATCHDOG_KEEPALIVES;
    let heardAt = this.#clock.mono();
    client.on('packetreceive', () => {
      heardAt = this.#clock.mono();
    });
    const look = (): void => {
      if (this.#client !== client) return;
      const silentMs = this.#clock.mono() - heardAt;
      if (silentMs < limitMs) {
        this.#cancelWatch = this.#clock.after(limitMs - silentMs + 1, look);
        return;
      }
      this.#log.warn({ url, silentMs: Math.round(silentMs) }, 'the broker has gone silent');
      client.stream.destroy();
    };
    this.#cancelWatch = this.#clock.after(limitMs, look);
  }
}

function clientOptions(init: MqttSessionInit, session: number): IClientOptions {
  const will = init.will?.(session);
  return {
    clientId: init.clientId,
    protocolId: 'MQTT',
    protocolVersion: 4,
    clean: true,
    keepalive: init.keepaliveSeconds,
    // Pings by the clock and not only in silence: their answers are what the watchdog listens for.
    reschedulePings: false,
    reconnectPeriod: 0,
    reconnectOnConnackError: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    queueQoSZero: false,
    resubscribe: false,
    timerVariant: 'native',
    ...(init.username === undefined ? {} : { username: init.username }),
    ...(init.password === undefined ? {} : { password: init.password }),
    ...(will === undefined ? {} : { will: { ...will, qos: 1 } }),
  };
}

function notConnected(): TidepoolError {
  return new TidepoolError('HUB_UNREACHABLE', 'no connection to the broker');
}
