/**
 * One MQTT 3.1.1 connection that comes back by itself. MQTT.js does the protocol; when to connect, to which broker, and
 * what happens to messages while there is no connection (nothing: they are refused, nothing queues) is decided here.
 */
import net from 'node:net';
import tls from 'node:tls';
import { type IClientOptions, MqttClient } from 'mqtt';
import type { Clock } from '../clock.ts';
import { describeError, TidepoolError } from '../errors.ts';
import { Backoff, type BackoffInit } from '../flow/backoff.ts';
import { quote } from '../ids.ts';
import type { Startable } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { MAX_MESSAGE_BYTES } from '../wire/topics.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** A connection that held this long was a good one: the next loss starts the back-off anew. */
const STABLE_MS = 30_000;
/** Silence of this many keepalives is a dead connection, whatever TCP believes. */
const WATCHDOG_KEEPALIVES = 2.5;
/** Publications that wait for their PUBACK. */
const MAX_PENDING = 4_096;
const CLOSE_TIMEOUT_MS = 2_000;

export interface MqttSessionComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface MqttSessionInit {
  /** `mqtt://host:port` or `mqtts://host:port`, tried in turn. */
  readonly urls: readonly string[];
  readonly clientId: string;
  readonly keepaliveSeconds: number;
  readonly backoff: Pick<BackoffInit, 'baseMs' | 'maxMs'>;
  /** The first connect comes after a random part of this: a pool that got its power back must not arrive as one. */
  readonly firstConnectSpreadMs: number;
  readonly username?: string;
  readonly password?: string;
  /** Source address, on hosts with several uplinks. */
  readonly localAddress?: string;
  /** Published by the broker when this connection is lost. */
  readonly will?: (session: number) => {
    readonly topic: string;
    readonly payload: Buffer;
    readonly retain: boolean;
  };
}

export interface MqttSessionHandlers {
  /** `session` counts the connections from 1. */
  connected(session: number): void;
  message(topic: string, payload: Uint8Array, retained: boolean): void;
  disconnected(reason: string): void;
}

export interface MqttSessionState {
  readonly connected: boolean;
  /** Wall clock of the last change, ms. */
  readonly since: number;
  readonly lastError: string | undefined;
}

export class MqttSession implements Startable {
  readonly name = 'mqtt';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #init: MqttSessionInit;
  readonly #handlers: MqttSessionHandlers;
  readonly #backoff: Backoff;
  readonly #pending = new Set<(error: TidepoolError) => void>();
  #client: MqttClient | undefined;
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
    this.#init = init;
    this.#handlers = handlers;
    this.#backoff = new Backoff({ ...init.backoff, random: this.#random });
    this.#state = { connected: false, since: this.#clock.now(), lastError: undefined };
    for (const url of init.urls) parseBrokerUrl(url);
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
    this.#schedule(this.#random() * this.#init.firstConnectSpreadMs);
  }

  /** Takes leave of the broker, so that the will is not published. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    const client = this.#client;
    if (client === undefined) return;
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
    if (payload.length > MAX_MESSAGE_BYTES) {
      const message = `${topic}: ${payload.length} bytes; a message has at most ${MAX_MESSAGE_BYTES}`;
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
    const session = this.#session + 1;
    const client = new MqttClient(
      () => openStream(url, this.#init.localAddress),
      clientOptions(this.#init, session),
    );
    this.#client = client;
    let why = `no answer from ${url}`;
    client.on('error', (error) => {
      why = `${url}: ${describeError(error)}`;
    });
    client.on('connect', () => {
      if (this.#client !== client || this.#stopped) return;
      this.#session = session;
      this.#watch(client, url);
      this.#cancelStable = this.#clock.after(STABLE_MS, () => this.#backoff.reset());
      this.#state = { connected: true, since: this.#clock.now(), lastError: undefined };
      this.#log.info({ url, session }, 'connected to the broker');
      this.#handlers.connected(session);
    });
    client.on('message', (topic, payload, packet) => {
      if (this.#client === client) this.#handlers.message(topic, payload, packet.retain);
    });
    client.on('close', () => {
      if (this.#client !== client) return;
      this.#lost(client, this.connected ? `${url}: connection lost` : why);
      const waitMs = this.#backoff.next();
      if (!this.#stopped) {
        const level = this.#backoff.attempts <= 1 ? 'warn' : 'debug';
        this.#log[level](
          { reason: this.#state.lastError, retryInMs: Math.round(waitMs) },
          'no connection to the broker',
        );
      }
      this.#schedule(waitMs);
    });
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

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseBrokerUrl(text: string): {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
} {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const secure = url?.protocol === 'mqtts:';
  if (url === undefined || (!secure && url.protocol !== 'mqtt:') || url.hostname === '') {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a broker: ${quote(text)}; write it like mqtt://hub.example:6183 or mqtts://hub.example:8883`,
    );
  }
  return {
    secure,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 8883 : 1883) : Number(url.port),
  };
}

function openStream(url: string, localAddress: string | undefined): net.Socket {
  const { secure, host, port } = parseBrokerUrl(url);
  const options = { host, port, ...(localAddress === undefined ? {} : { localAddress }) };
  const socket = secure
    ? tls.connect({ ...options, ...(net.isIP(host) === 0 ? { servername: host } : {}) })
    : net.connect(options);
  socket.setNoDelay(true);
  return socket;
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
