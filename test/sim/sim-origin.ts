import type { OriginBody, RegistryOrigin } from '../../edge/origin/types.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { SimNode, World } from './world.ts';

const CHUNK = 64 * 1024;
/** On a thin uplink flows share it packet by packet. */
const PACKET = 1448;
/** From an ask of the origin to the first byte of its answer. */
const ORIGIN_MS = 20;
const ZEROS = Buffer.alloc(CHUNK);

/** The one registry beyond the pool's uplink, as one node reaches it. */
export class SimOrigin implements RegistryOrigin {
  readonly #world: World;
  readonly #node: SimNode;

  constructor(world: World, node: SimNode) {
    this.#world = world;
    this.#node = node;
  }

  async blob(request: Parameters<RegistryOrigin['blob']>[0]): Promise<OriginBody> {
    const world = this.#world;
    const node = this.#node;
    const ranged = world.init.rangeless !== true;
    const size = node.sizes.get(request.digest);
    if (ranged && request.end === undefined) throw new Error('the simulated origin is asked for ranges only');
    const start = ranged ? request.start : 0;
    const end = ranged ? request.end : size;
    if (end === undefined) throw new Error(`${node.name} does not know the size of ${request.digest}`);
    await world.clock.sleep(ORIGIN_MS);
    if (!ranged) {
      node.wholeReads.push({ at: world.clock.mono(), digest: request.digest, asked: request.start });
      // Sent before the reader can call it off.
      if (request.end !== undefined && request.end < end) world.uplink.reserve(2 * CHUNK, world.clock.mono());
    }
    async function* body(): AsyncGenerator<Uint8Array> {
      for (let position = start; position < (end ?? 0); ) {
        request.signal?.throwIfAborted();
        if (world.originFails !== undefined) throw world.originFails();
        if (!world.wanUp || !node.alive) {
          await world.clock.sleep(1_000);
          throw new TidepoolError('ORIGIN_UNREACHABLE', 'the uplink is down');
        }
        const most = Math.min(world.uplink.rate < 1e6 ? PACKET : CHUNK, (end ?? 0) - position);
        const chunk = world.init.content?.(request.digest, position, most) ?? ZEROS.subarray(0, most);
        await world.uplink.send(chunk.length);
        node.wanLog.push({ at: world.clock.mono(), bytes: chunk.length });
        position += chunk.length;
        yield node.badMemory ? Buffer.from(chunk).fill(1) : chunk;
      }
    }
    return { ranged, start, size: undefined, body: body() };
  }

  async manifest(): Promise<never> {
    throw new TidepoolError('MANIFEST_UNKNOWN', 'no manifests here');
  }

  async blobSize(): Promise<never> {
    if (!this.#world.wanUp) throw new TidepoolError('ORIGIN_UNREACHABLE', 'the uplink is down');
    throw new TidepoolError('BLOB_UNKNOWN', 'sizes are known here');
  }

  async passThrough(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'nothing passes through here');
  }

  downSince(): undefined {
    return undefined;
  }
}
