import type { LookupFunction } from 'node:net';
import type { Clock } from '../clock.ts';
import type { BackoffInit } from '../flow/backoff.ts';
import type { Logger } from '../log.ts';
import type { TlsIdentity } from '../trust/types.ts';
import type { BrokerTrust } from './broker-stream.ts';

export interface MqttSessionComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** Shown to the broker, and what judges the broker; undefined: plain, or TLS by the system's roots. */
  readonly identity?: TlsIdentity | undefined;
  /** How names become addresses; the system's when absent. */
  readonly lookup?: LookupFunction | undefined;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface MqttSessionInit {
  /** `mqtt://host:port` or `mqtts://host:port`, tried in turn. */
  readonly urls: readonly string[];
  readonly clientId: string;
  readonly keepaliveSeconds: number;
  readonly backoff: Omit<BackoffInit, 'random'>;
  /** The first connect comes after a random part of this: a pool that got its power back must not arrive as one. */
  readonly firstConnectSpreadMs: number;
  readonly username?: string;
  readonly password?: string;
  /** Where the broker is not the hub's own; absent: it has to show a certificate of the hub. */
  readonly broker?: BrokerTrust | undefined;
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
  /** An attempt came to nothing, or a connection has ended, and the next attempt is due. */
  failed?(failure: MqttFailure): void;
}

export interface MqttFailure {
  readonly why: string;
  /** The other side answered, and refused us or was refused: people have to see to it. */
  readonly refused: boolean;
  readonly retryInMs: number;
}

export interface MqttSessionState {
  readonly connected: boolean;
  /** While connected. */
  readonly url?: string;
  /** Wall clock of the last change, ms. */
  readonly since: number;
  readonly lastError: string | undefined;
}
