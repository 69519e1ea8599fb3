import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { OriginBody } from '../origin/types.ts';
import type { PeerClient } from '../peers/types.ts';
import type { OriginTarget, UpstreamSource } from './origin-reader.ts';

/** A member of the upstream pool that failed is passed over for this long. */
const AWAY_MS = 10_000;

interface UpstreamPoolComponents {
  readonly client: Pick<PeerClient, 'upstream'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Another pool that is asked before the origin: a regional or cloud seed. Its members are taken in turn. */
export class UpstreamPool implements UpstreamSource {
  readonly #c: UpstreamPoolComponents;
  #addresses: readonly string[] = [];
  #next = 0;
  readonly #awayUntil = new Map<string, number>();

  constructor(components: UpstreamPoolComponents) {
    this.#c = components;
  }

  configure(addresses: readonly string[]): void {
    this.#addresses = addresses;
    this.#awayUntil.clear();
  }

  async read(
    target: OriginTarget,
    start: number,
    end: number,
    signal: AbortSignal,
  ): Promise<OriginBody | undefined> {
    for (let tried = 0; tried < this.#addresses.length; tried++) {
      const address = this.#addresses[this.#next++ % this.#addresses.length];
      if (address === undefined || (this.#awayUntil.get(address) ?? 0) > this.#c.clock.mono()) continue;
      try {
        const { registry, repository, digest } = target;
        const body = await this.#c.client.upstream(
          address,
          { registry, repository, key: digest, start, end },
          signal,
        );
        return { ranged: true, start, size: target.layout.size, body };
      } catch (error) {
        signal.throwIfAborted();
        this.#awayUntil.set(address, this.#c.clock.mono() + AWAY_MS);
        this.#c.log.info(
          { address, why: describeError(error) },
          'a member of the upstream pool cannot give it',
        );
      }
    }
    return undefined;
  }
}
