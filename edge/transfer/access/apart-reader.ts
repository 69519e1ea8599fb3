import { createHash } from 'node:crypto';
import type { Clock } from '../../../shared/clock.ts';
import { TidepoolError } from '../../../shared/errors.ts';
import type { Digest } from '../../../shared/ids.ts';
import { layoutOf, pieceRange } from '../../../shared/pieces.ts';
import type { Lease } from '../../store/types.ts';
import { type OriginReader, type OriginTarget, RangelessError } from '../origin-reader.ts';
import { type ContentRequest, PRIORITY } from '../types.ts';
import type { Provenance } from './provenance.ts';

interface ApartReaderComponents {
  readonly reader: Pick<OriginReader, 'piece'>;
  readonly provenance: Pick<Provenance, 'prove'>;
  readonly clock: Clock;
}

/**
 * Reads a blob from its registry past store and pool: of one that is here, but came from another registry. Its bytes are the
 * registry's own then, and once every one has come and matches the digest, the ones here may be served under its name too.
 * That costs the WAN a second time, for what two registries have and neither gives to all.
 */
export class ApartReader {
  readonly #c: ApartReaderComponents;

  constructor(components: ApartReaderComponents) {
    this.#c = components;
  }

  /** Bytes [start, end) in order; of the whole blob, the last piece only after the digest is verified. */
  async *read(
    request: ContentRequest & { readonly digest: Digest },
    size: number,
    range: { readonly start: number; readonly end: number; readonly signal?: AbortSignal | undefined },
  ): AsyncGenerator<Lease> {
    const { registry, repository, digest } = request;
    const { start, end } = range;
    const target: OriginTarget = { registry, repository, digest, layout: layoutOf(size) };
    const { pieceSize } = target.layout;
    const hash = start === 0 && end === size ? createHash('sha256') : undefined;
    const never = new AbortController();
    let moved: number | undefined;
    for (let piece = Math.floor(start / pieceSize); piece * pieceSize < end; piece++) {
      const { buffer } = await this.#piece(target, piece, {
        credentials: request.credentials,
        priority: request.priority ?? PRIORITY.onDemand,
        signal: range.signal ?? never.signal,
        onBytes: () => {
          moved = this.#c.clock.mono();
        },
        lastProgress: () => moved,
      });
      const release = once(() => buffer.release());
      try {
        hash?.update(buffer.bytes);
        const at = pieceRange(target.layout, piece);
        if (hash !== undefined && at.end === size) this.#check(registry, digest, hash.digest('hex'));
        yield {
          bytes: buffer.bytes.subarray(Math.max(0, start - at.start), Math.min(at.end, end) - at.start),
          release,
        };
      } catch (error) {
        release();
        throw error;
      }
    }
    if (size === 0) this.#check(registry, digest, createHash('sha256').digest('hex'));
  }

  async #piece(target: OriginTarget, piece: number, options: Parameters<OriginReader['piece']>[2]) {
    try {
      return await this.#c.reader.piece(target, piece, options);
    } catch (error) {
      if (!(error instanceof RangelessError)) throw error;
      throw new TidepoolError(
        'ORIGIN_ERROR',
        `${target.registry} takes no ranges, and ${target.digest}, which came from another registry, cannot be read from it piece by piece`,
      );
    }
  }

  #check(registry: string, digest: Digest, hex: string): void {
    if (digest !== `sha256:${hex}`) {
      throw new TidepoolError(
        'DIGEST_MISMATCH',
        `what ${registry} gave for ${digest} does not match that digest`,
      );
    }
    this.#c.provenance.prove(registry, digest);
  }
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    act();
  };
}
