import { join } from 'node:path';
import { TidepoolError } from '../../shared/errors.ts';
import type { AgentSettings } from '../settings.ts';
import { AgentIdentity, type AgentIdentityComponents } from './agent-identity.ts';

const DIRECTORY = 'identity';

/**
 * This node's identity, as it is kept in the data directory.
 * @throws TidepoolError INVALID_CONFIG when it is damaged or another node's
 */
export function openIdentity(
  { node, data, trust, sourceAddress }: Pick<AgentSettings, 'node' | 'data' | 'trust' | 'sourceAddress'>,
  components: AgentIdentityComponents,
  platform?: string,
): AgentIdentity {
  const { beacon: _, ...rest } = trust;
  return new AgentIdentity(components, {
    ...rest,
    enrolUrl: trust.enrollUrl,
    node,
    directory: join(data, DIRECTORY),
    platform,
    localAddress: sourceAddress,
  });
}

/**
 * That the hub is spoken to by TLS, and that this node is enrolled or can be.
 * @throws TidepoolError INVALID_CONFIG, with what to do
 */
export function requireWay(identity: AgentIdentity, { trust, hub, peers }: AgentSettings): void {
  const plain = hub.find((url) => url.startsWith('mqtt:'));
  if (plain !== undefined) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `${plain} is a plain connection, on which anybody could pose as the hub: write it as mqtts://…, or start the agent with --insecure`,
    );
  }
  if (identity.enrolled) return;
  if (trust.enrollUrl === undefined) {
    const alone =
      peers.length > 0 ? '--peers alone name no one whose word on that could be taken' : 'there is none';
    throw new TidepoolError(
      'INVALID_CONFIG',
      `this node has no certificate, and only a hub can give it one (${alone}): name it with --hub and --join; where you trust the whole network between the nodes, --insecure does without`,
    );
  }
  if (trust.credential === undefined) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `this node has no certificate yet: make a token with \`tidepool-hub token create\` and give it with --join (or --join-file), for the hub ${hub[0] ?? trust.enrollUrl}; --insecure does without, where you trust the whole network`,
    );
  }
}
