/**
 * What an agent is started with: one YAML file, flags over it. `edge/config` reads and checks it; rooms get the fields
 * they need from the composition root.
 */
import type { NodeName, PoolName } from '../shared/ids.ts';
import type { LogLevel } from '../shared/log.ts';
import type { BrokerTrust } from '../shared/mqtt/broker-stream.ts';
import type { TuningSettings } from '../shared/wire/messages/tuning.ts';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface RegistrySettings {
  /** Base URL of the origin: `https://registry-1.docker.io`, `http://10.0.0.1:5000`. */
  readonly url: string;
  /** PEM file of authorities to trust besides the system's. */
  readonly caFile?: string;
  /** The same as text. */
  readonly ca?: string;
  /** Take any certificate: what is fetched by digest is checked anyway, tags and accounts are at the mercy of the network. */
  readonly skipVerify?: boolean;
  /** Hosts of token services that may be given this registry's accounts, besides the registry's own. */
  readonly realms?: readonly string[];
}

/** How this agent meets the node's container runtime. */
export interface RuntimeSettings {
  /** CRI socket; null: none is talked to. Mount its directory into a container, never the socket: a restart makes a new one. */
  readonly criSocket: string | null;
  /**
   * Root of containerd's content store, whose blobs are shared with the pool; `auto`: where it usually is, if it is there;
   * null: not shared.
   */
  readonly containerdContent: string | null;
  /** containerd's `config_path`. */
  readonly certsDir: string;
  /** Where the host's files are, for an agent in a container; `/` on the host. */
  readonly hostRoot: string;
}

/** What lets this node in where it has no certificate yet. Files are read at each attempt. */
export type EnrolmentCredential =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'token-file'; readonly file: string }
  | {
      readonly kind: 'service-account';
      readonly tokenFile: string;
      /** PEM of the authority that the hub has to show. */
      readonly caFile: string;
    };

/** Who this node is, and whom it believes; all of it without effect where the agent is `insecure`. */
export interface TrustSettings {
  /** Base URL of the hub's API; undefined where there is no hub. */
  readonly enrollUrl?: string;
  readonly credential?: EnrolmentCredential;
  /** The node takes the place of one of its name that is enrolled already. */
  readonly replace: boolean;
  /** How long past its end a certificate still counts among neighbours, ms. */
  readonly graceMs: number;
  /** Where neighbours make themselves known on the LAN; undefined where they do not. */
  readonly beacon?: HostPort;
}

export interface AgentSettings {
  readonly node: NodeName;
  readonly pool: PoolName;
  /** The hub says which pool this node is in; `pool` is what it said last, or where to begin. */
  readonly poolFromHub: boolean;
  /** Literal address that neighbours reach this node at. */
  readonly address: string;
  readonly data: string;
  readonly mirror: HostPort;
  readonly peerPort: number;
  readonly ops: HostPort;
  /** MQTT URLs of the hub's broker, tried in turn; none: the node works from `peers` alone. */
  readonly hub: readonly string[];
  /** How a broker that is not the hub's own proves itself; absent: as the hub. */
  readonly hubTrust?: BrokerTrust;
  /** Static neighbours, literal addresses with the peer port. */
  readonly peers: readonly HostPort[];
  /** By registry host as runtimes name it. */
  readonly registries: Readonly<Record<string, RegistrySettings>>;
  /** Any registry may be dialled at `https://<host>`, not only those named. */
  readonly openRegistries: boolean;
  /** Networks (CIDR) that registries, redirects and token services may be in though they are not public. */
  readonly allowAddresses?: readonly string[];
  /** Registry of requests that name none (docker's `registry-mirrors`). */
  readonly defaultRegistry: string;
  /** Connections to registries and to the hub are made from this literal address: a chosen uplink. */
  readonly sourceAddress?: string;
  /** A file of `tidepool-hub pools bootstrap`: what the hub would say, for a new disk that cannot hear it. */
  readonly bootstrap?: string;
  /** Tuning before the hub has said anything, and beneath what it says. */
  readonly tuning: TuningSettings;
  readonly runtime: RuntimeSettings;
  /**
   * Whether `containerd configure` leaves a way past the agent to the registry. True: when the agent is down or has not got
   * an image, containerd goes to the registry by itself, past the pool's WAN cap. False: such a pull fails.
   */
  readonly originFallback: boolean;
  readonly insecure: boolean;
  readonly trust: TrustSettings;
  readonly logLevel: LogLevel;
}
