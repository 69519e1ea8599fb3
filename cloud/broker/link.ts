import { randomUUID } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { BrokerTrust } from '../../shared/mqtt/broker-stream.ts';
import { MqttSession, type MqttSessionState } from '../../shared/mqtt/session.ts';
import { signMessage } from '../../shared/trust/envelope.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { encode } from '../../shared/wire/messages/codec.ts';
import type { HubState } from '../../shared/wire/messages/hub-state.ts';
import { filters, MAX_MESSAGE_BYTES, topics } from '../../shared/wire/topics.ts';

const KEEPALIVE_SECONDS = 15;
const BACKOFF = { baseMs: 500, maxMs: 30_000 };
/** Retained messages of an earlier hub come right after the subscription; this much quiet means that was all. */
const SWEEP_QUIET_MS = 1_000;

export interface LinkInit {
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  /** Where the broker is not the hub's own. */
  readonly broker?: BrokerTrust | undefined;
  readonly epoch: number;
  readonly sweepQuietMs?: number;
  /** Whether this hub may speak for all hubs now; always, where left out. */
  readonly leads?: () => boolean;
}

export interface LinkHandlers {
  /** After each connect; retained state must be published anew, for the broker may have lost it. */
  connected(): void;
  disconnected(): void;
  /** What nodes say. */
  message(topic: string, payload: Uint8Array): void;
  /** Every retained topic that the broker holds, once after each connect. */
  retained(topics: readonly string[]): void;
}

/**
 * The hub's own connection to its broker, be that in this process or elsewhere. With an identity everything that it says
 * is signed: a broker carries messages, and is believed nothing.
 */
export class Link implements Startable {
  readonly name = 'broker link';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #init: LinkInit;
  readonly #handlers: LinkHandlers;
  readonly #session: MqttSession;
  readonly #identity: TlsIdentity | undefined;
  #signedBy: string | undefined;
  #unsubscribe: (() => void) | undefined;
  #found: Set<string> | undefined;
  #cancelSweep: (() => void) | undefined;
  #firstConnect: (() => void) | undefined;

  constructor(
    components: {
      readonly clock: Clock;
      readonly log: Logger;
      /** Undefined: a plain connection. */
      readonly identity?: TlsIdentity | undefined;
    },
    init: LinkInit,
    handlers: LinkHandlers,
  ) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#identity = components.identity;
    this.#init = init;
    this.#handlers = handlers;
    this.#session = new MqttSession(
      components,
      {
        urls: [init.url],
        clientId: `tidepool-hub-${randomUUID()}`,
        keepaliveSeconds: KEEPALIVE_SECONDS,
        backoff: BACKOFF,
        firstConnectSpreadMs: 0,
        ...(init.username === undefined ? {} : { username: init.username }),
        ...(init.password === undefined ? {} : { password: init.password }),
        broker: init.broker,
        // Nobody can sign at the moment of a loss, so it is signed now: a broker may tell it early, and it is a hint.
        will: () => ({ topic: topics.hubState, payload: this.#stateMessage('offline'), retain: true }),
      },
      {
        connected: () => void this.#onConnect(),
        message: (topic, payload, retained) => this.#onMessage(topic, payload, retained),
        disconnected: () => {
          this.#cancelSweep?.();
          this.#found = undefined;
          handlers.disconnected();
        },
      },
    );
  }

  get state(): MqttSessionState {
    return this.#session.state;
  }

  start(): Promise<void> {
    this.#signedBy = this.#identity?.current().cert;
    this.#unsubscribe = this.#identity?.onChange(() => this.#signAnew());
    return this.#session.start();
  }

  /** Says that the hub is gone, then leaves. */
  async stop(): Promise<void> {
    this.#cancelSweep?.();
    this.#unsubscribe?.();
    // A hub that was followed by another one must not say that the hub is gone.
    if (this.#session.connected && this.#leads) {
      await this.#session
        .publish(topics.hubState, this.#stateMessage('offline'), { retain: true })
        .catch((error: unknown) =>
          this.#log.debug({ reason: describeError(error) }, 'could not say goodbye'),
        );
    }
    await this.#session.stop();
  }

  /** @throws TidepoolError HUB_UNREACHABLE also while another hub leads, OVERLOADED, INVALID_ARGUMENT for what is too large */
  publish(topic: string, payload: Buffer, options: { readonly retain?: boolean } = {}): Promise<void> {
    // Asked for each message: the lease may have run out since this one was made.
    if (!this.#leads) {
      return Promise.reject(new TidepoolError('HUB_UNREACHABLE', 'this hub does not lead'));
    }
    if (payload.length > MAX_MESSAGE_BYTES) {
      const message = `${topic}: ${payload.length} bytes; a message has at most ${MAX_MESSAGE_BYTES}`;
      return Promise.reject(new TidepoolError('INVALID_ARGUMENT', message));
    }
    return this.#session.publish(topic, this.#signed(topic, payload), options);
  }

  /** Resolves at the first connection, or after `ms`; false then. */
  ready(ms: number): Promise<boolean> {
    if (this.#session.connected) return Promise.resolve(true);
    return new Promise((resolve) => {
      const cancel = this.#clock.after(ms, () => resolve(false));
      this.#firstConnect = () => {
        cancel();
        resolve(true);
      };
    });
  }

  get #leads(): boolean {
    return this.#init.leads?.() ?? true;
  }

  async #onConnect(): Promise<void> {
    try {
      await this.#session.subscribe(filters.hub);
      this.#startSweep();
      await this.#session.subscribe(filters.retained);
      this.#handlers.connected();
      await this.#sayOnline();
      this.#firstConnect?.();
    } catch (error) {
      // The connection went before all was said; the next one says it.
      this.#log.warn({ reason: describeError(error) }, 'could not announce the hub');
      this.#session.drop();
    }
  }

  #onMessage(topic: string, payload: Uint8Array, retained: boolean): void {
    if (this.#found !== undefined && retained) {
      this.#found.add(topic);
      this.#armSweep();
      return;
    }
    // The hub's own publications come back while the sweep listens; those of nodes are never retained.
    this.#handlers.message(topic, payload);
  }

  #startSweep(): void {
    this.#found = new Set();
    this.#armSweep();
  }

  #armSweep(): void {
    this.#cancelSweep?.();
    this.#cancelSweep = this.#clock.after(this.#init.sweepQuietMs ?? SWEEP_QUIET_MS, () => {
      const found = [...(this.#found ?? [])];
      this.#found = undefined;
      this.#session.unsubscribe(filters.retained).catch((error: unknown) => {
        this.#log.debug({ reason: describeError(error) }, 'could not unsubscribe');
      });
      this.#handlers.retained(found);
    });
  }

  #stateMessage(state: HubState['state']): Buffer {
    const message = encode({ state, epoch: this.#init.epoch, at: this.#clock.now() } satisfies HubState);
    return this.#signed(topics.hubState, message);
  }

  /** An empty message clears what a broker retains; it is not one, and agents act on none. */
  #signed(topic: string, payload: Buffer): Buffer {
    if (this.#identity === undefined || payload.length === 0) return payload;
    return signMessage(topic, payload, this.#identity.current());
  }

  /** What is retained would end with the certificate that signed it. */
  #signAnew(): void {
    const cert = this.#identity?.current().cert;
    if (cert === this.#signedBy) return;
    this.#signedBy = cert;
    if (!this.#session.connected || !this.#leads) return;
    this.#handlers.connected();
    this.#sayOnline().catch((error: unknown) => {
      this.#log.warn(
        { reason: describeError(error) },
        'could not announce the hub under its new certificate',
      );
    });
  }

  #sayOnline(): Promise<void> {
    if (!this.#leads) return Promise.reject(new TidepoolError('HUB_UNREACHABLE', 'this hub does not lead'));
    return this.#session.publish(topics.hubState, this.#stateMessage('online'), { retain: true });
  }
}
