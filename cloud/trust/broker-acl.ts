/**
 * The embedded broker's policy, written for brokers that are not ours: each node publishes what it says itself, reads
 * what its pool and it are told, and nothing else; the hub may everything below `tidepool/v1/`.
 */
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { BrokerAclFormat } from '../../shared/wire/api.ts';
import { poolPrefix, topics } from '../../shared/wire/topics.ts';

/** The common name in the hub's certificate; no node can be called like this. */
export const HUB_COMMON_NAME = 'tidepool hub';
/** Of a common name, by X.509. Longer names would be cut, and two of them might then be one. */
const MAX_COMMON_NAME = 64;
const EVERYTHING = 'tidepool/v1/#';

export interface BrokerAcl {
  readonly text: string;
  /** Nodes that brokers cannot tell from others by their certificates' common names. */
  readonly leftOut: readonly NodeName[];
}

interface NodeRights {
  readonly node: NodeName;
  readonly publish: readonly string[];
  /** Topics, and filters that match nothing beyond what the node may read. */
  readonly subscribe: readonly string[];
}

/** @param nodes those that hold a certificate, and the pool that it names */
export function brokerAcl(format: BrokerAclFormat, nodes: ReadonlyMap<NodeName, PoolName>): BrokerAcl {
  const sorted = [...nodes].sort(([a], [b]) => (a < b ? -1 : 1));
  const leftOut = sorted.map(([node]) => node).filter((node) => node.length > MAX_COMMON_NAME);
  const rights = sorted
    .filter(([node]) => node.length <= MAX_COMMON_NAME)
    .map(([node, pool]) => rightsOf(node, pool));
  return { text: WRITERS[format](rights), leftOut };
}

function rightsOf(node: NodeName, pool: PoolName): NodeRights {
  return {
    node,
    publish: [topics.birth(node), topics.death(node), topics.report(node)],
    subscribe: [topics.hubState, topics.command(node), `${poolPrefix(pool)}#`],
  };
}

const WRITERS: Readonly<Record<BrokerAclFormat, (rights: readonly NodeRights[]) => string>> = {
  mosquitto: (rights) =>
    [
      `user ${HUB_COMMON_NAME}`,
      `topic readwrite ${EVERYTHING}`,
      ...rights.flatMap(({ node, publish, subscribe }) => [
        '',
        `user ${node}`,
        ...publish.map((topic) => `topic write ${topic}`),
        ...subscribe.map((topic) => `topic read ${topic}`),
      ]),
      '',
    ].join('\n'),
  dynsec: (rights) => `${JSON.stringify(dynsecOf(rights), undefined, 2)}\n`,
  emqx: (rights) =>
    [
      `{allow, {username, "${HUB_COMMON_NAME}"}, all, ["${EVERYTHING}"]}.`,
      ...rights.flatMap(({ node, publish, subscribe }) => [
        `{allow, {username, "${node}"}, publish, [${publish.map((topic) => `"${topic}"`).join(', ')}]}.`,
        `{allow, {username, "${node}"}, subscribe, [${subscribe.map(emqxFilter).join(', ')}]}.`,
      ]),
      '{deny, all}.',
      '',
    ].join('\n'),
};

/**
 * EMQX compares a subscription with these as topics, wildcards and all; every filter that an agent asks for is under
 * one of them.
 */
function emqxFilter(filter: string): string {
  return filter.endsWith('#') ? `"${filter}"` : `{eq, "${filter}"}`;
}

/** Mosquitto's plugin asks twice: at the subscription, and for each message before it is sent. */
function dynsecOf(rights: readonly NodeRights[]): object {
  const hub = {
    rolename: 'tidepool-hub',
    acls: ['publishClientSend', 'publishClientReceive', 'subscribePattern', 'unsubscribePattern'].map(
      (acltype) => ({ acltype, topic: EVERYTHING, priority: 0, allow: true }),
    ),
  };
  const allow = (acltype: string) => (topic: string) => ({ acltype, topic, priority: 0, allow: true });
  return {
    defaultACLAccess: {
      publishClientSend: false,
      publishClientReceive: false,
      subscribe: false,
      unsubscribe: true,
    },
    clients: [
      { username: HUB_COMMON_NAME, roles: [{ rolename: hub.rolename, priority: 0 }] },
      ...rights.map(({ node }) => ({
        username: node,
        // Nobody can take this node's place by calling itself so.
        clientid: node,
        roles: [{ rolename: `tidepool-node-${node}`, priority: 0 }],
      })),
    ],
    roles: [
      hub,
      ...rights.map(({ node, publish, subscribe }) => ({
        rolename: `tidepool-node-${node}`,
        acls: [
          ...publish.map(allow('publishClientSend')),
          ...subscribe.map(allow('publishClientReceive')),
          ...subscribe.map(allow('subscribePattern')),
          ...subscribe.map(allow('unsubscribePattern')),
        ],
      })),
    ],
  };
}
