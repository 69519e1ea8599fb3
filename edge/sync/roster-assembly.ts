import type { RosterMessage } from '../../shared/wire/messages/roster.ts';
import { MAX_SHARDS } from './constants.ts';

/** A pool's members, whole, as of one version. */
export type Roster = Pick<RosterMessage, 'epoch' | 'version' | 'nodes'>;

/**
 * Puts shards together. Shards of different versions never mix: a node that moved between shards would be there twice,
 * or not at all. Only the newest version is collected.
 */
export class RosterAssembly {
  #epoch = -1;
  #version = -1;
  #shards = 0;
  #parts = new Map<number, RosterMessage['nodes']>();

  /** The whole roster once its last shard has come, else undefined. */
  add(message: RosterMessage): Roster | undefined {
    const { epoch, version, shard, shards, nodes } = message;
    if (shards > MAX_SHARDS || shard >= shards) return undefined;
    if (epoch < this.#epoch || (epoch === this.#epoch && version < this.#version)) return undefined;
    if (epoch !== this.#epoch || version !== this.#version || shards !== this.#shards) {
      this.#epoch = epoch;
      this.#version = version;
      this.#shards = shards;
      this.#parts = new Map();
    }
    this.#parts.set(shard, nodes);
    if (this.#parts.size < shards) return undefined;
    const whole = [...this.#parts].sort(([a], [b]) => a - b).flatMap(([, part]) => part);
    return { epoch, version, nodes: whole };
  }
}
