/** Who the neighbours are, and how they are asked: the room of peers, but for its server. */
import type { Clock } from '../../shared/clock.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { formatHostPort } from '../config/addresses.ts';
import type { AgentIdentity } from '../identity/agent-identity.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import { Beacons } from '../peers/beacon.ts';
import { HttpPeerClient } from '../peers/client.ts';
import { Members } from '../peers/members.ts';
import { TrustGossip } from '../peers/trust-gossip.ts';
import type { AgentSettings } from '../settings.ts';
import type { PieceStore } from '../store/piece-store.ts';
import type { EventOutbox } from '../sync/events.ts';

interface NeighbourComponents {
  readonly index: SqliteIndex;
  readonly store: PieceStore;
  /** Undefined for an agent that needs no certificate. */
  readonly identity: AgentIdentity | undefined;
  readonly events: EventOutbox;
  readonly clock: Clock;
  readonly logOf: (room: string) => Logger;
  readonly random: () => number;
}

interface NeighbourInit {
  readonly node: NodeName;
  readonly pool: PoolName;
  /** `host:port` where neighbours reach this node. */
  readonly peerAddress: string;
  readonly settings: Pick<AgentSettings, 'address' | 'peers' | 'trust'>;
}

export interface Neighbours {
  readonly client: HttpPeerClient;
  readonly members: Members;
  /** Undefined where none are sent. */
  readonly beacons: Beacons | undefined;
  readonly gossip: TrustGossip | undefined;
}

/** Nothing is started. */
export function makeNeighbours(components: NeighbourComponents, init: NeighbourInit): Neighbours {
  const { index, store, identity, events, clock, logOf, random } = components;
  const { node, pool, peerAddress, settings } = init;
  const client = new HttpPeerClient({ store, clock, identity }, { node, pool, address: peerAddress });
  const members = new Members(
    { client, documents: index.documents, clock, log: logOf('peers'), events },
    { self: node, pool, peers: settings.peers.map(formatHostPort), certified: identity !== undefined },
  );
  const { beacon } = settings.trust;
  const beacons =
    identity?.enrolled !== true || beacon === undefined
      ? undefined
      : new Beacons(
          { identity, members, clock, log: logOf('beacons'), random },
          {
            node,
            pool,
            address: peerAddress,
            local: settings.address,
            group: beacon,
            boot: () => identity.nextBoot(),
          },
        );
  const gossip =
    identity === undefined
      ? undefined
      : new TrustGossip({
          members,
          client,
          take: (signed) => identity.takeSigned(signed),
          clock,
          log: logOf('gossip'),
          random,
        });
  return { client, members, beacons, gossip };
}
