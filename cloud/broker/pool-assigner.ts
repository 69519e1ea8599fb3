import { type Clock, every } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { CommandMessage } from '../../shared/wire/messages/command.ts';
import type { Member } from '../pools/membership.ts';
import type { ObservedNodes } from '../pools/observed-nodes.ts';

/** Nodes are looked through this often; a label that changes is told within it. */
const LOOK_MS = 2_000;
/** An agent that does not follow (its settings name its pool) is told again after this, twice as long each time. */
const AGAIN_MS = 10_000;
const AGAIN_MAX_MS = 600_000;
/** Nodes told in one look: a relabelled cluster moves over some looks instead of all at once. */
const MAX_A_LOOK = 200;

export interface PoolAssignerComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly observed: Pick<ObservedNodes, 'get'>;
  readonly members: () => ReadonlyMap<NodeName, Member>;
  /** Whether this hub speaks for all now. */
  readonly leads: () => boolean;
  readonly send: (node: NodeName, command: CommandMessage['command']) => Promise<void>;
}

interface Told {
  readonly pool: PoolName;
  readonly waitMs: number;
  /** Monotonic. */
  readonly notBefore: number;
}

/**
 * Tells agents which pool their node's label says: on the node itself nobody can read it, and an agent that starts
 * without the hub stays where it was told last.
 */
export class PoolAssigner implements Startable {
  readonly name = 'pool assigner';
  readonly #c: PoolAssignerComponents;
  readonly #told = new Map<NodeName, Told>();
  #cancel: (() => void) | undefined;

  constructor(components: PoolAssignerComponents) {
    this.#c = components;
  }

  async start(): Promise<void> {
    this.#cancel = every(this.#c.clock, LOOK_MS, () => this.look());
  }

  async stop(): Promise<void> {
    this.#cancel?.();
  }

  /** Looks through all nodes now. */
  look(): void {
    const { clock, observed, members, leads } = this.#c;
    if (!leads()) {
      this.#told.clear();
      return;
    }
    const now = clock.mono();
    const nodes = members();
    for (const node of this.#told.keys()) {
      const member = nodes.get(node);
      if (member === undefined || member.pool === observed.get(node)?.pool) this.#told.delete(node);
    }
    let sent = 0;
    for (const { node, pool } of nodes.values()) {
      const self = observed.get(node);
      if (pool === undefined || self?.online !== true || self.pool === pool) continue;
      const before = this.#told.get(node);
      if (before?.pool === pool && now < before.notBefore) continue;
      if (++sent > MAX_A_LOOK) return;
      const waitMs = before?.pool === pool ? Math.min(before.waitMs * 2, AGAIN_MAX_MS) : AGAIN_MS;
      this.#told.set(node, { pool, waitMs, notBefore: now + waitMs });
      this.#c.send(node, { kind: 'pool', pool }).catch((error: unknown) => {
        this.#c.log.debug({ node, pool, reason: describeError(error) }, 'could not tell a node its pool');
      });
    }
  }
}
