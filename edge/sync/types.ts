import type { LookupFunction } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import type { BackoffInit } from '../../shared/flow/backoff.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { BrokerTrust } from '../../shared/mqtt/broker-stream.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { TrustMessage } from '../../shared/wire/messages/trust.ts';
import type { DocumentTable } from '../index/types.ts';
import type { EventOutbox } from './events.ts';
import type { LinkState } from './link-state.ts';

export interface HubLinkComponents {
  readonly documents: DocumentTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** Shown to the broker, and what tells the hub's word from others'; undefined: both are taken as they come. */
  readonly identity?: TlsIdentity | undefined;
  /** What happens on the node, kept until the hub has it. */
  readonly events?: EventOutbox | undefined;
  /** How the broker's name becomes an address; by the system when absent. */
  readonly lookup?: LookupFunction | undefined;
  /** In [0, 1), for jitter; default Math.random. */
  readonly random?: () => number;
}

export interface HubLinkInit {
  /** `mqtts://host:port`, or `mqtt://` without an identity, tried in turn; none: there is no hub, and only what is kept is told. */
  readonly urls: readonly string[];
  readonly node: NodeName;
  readonly pool: PoolName;
  /** Where the broker is not the hub's own. */
  readonly broker?: BrokerTrust | undefined;
  /** New with each start of the agent. */
  readonly bootId: string;
  /** Literal address and peer port, for the roster. */
  readonly address: string;
  readonly version: string;
  readonly platform: string;
  /** Source address of the connection, on hosts with several uplinks. */
  readonly localAddress?: string | undefined;
  /** The first connect and rebirths come within this; default 2 s. */
  readonly spreadMs?: number;
  readonly reconnect?: Omit<BackoffInit, 'random'>;
  readonly keepaliveSeconds?: number;
  readonly reportIntervalMs?: number;
}

export interface TrustTold {
  readonly message: TrustMessage;
  readonly signed: Uint8Array;
}

/** What was in a bootstrap file. */
export interface Taken {
  readonly epoch: number;
  readonly nodes: number;
  readonly jobs: number;
}

export interface HubLinkState {
  readonly urls: readonly string[];
  readonly connected: boolean;
  /** Wall clock of the last change, ms. */
  readonly since: number;
  readonly lastError: string | null;
  readonly state: LinkState;
}
