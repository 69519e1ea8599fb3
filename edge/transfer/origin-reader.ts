import { createHash } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { delay } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Digest, NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { type PieceLayout, pieceLength, pieceRange } from '../../shared/pieces.ts';
import type { Credentials, OriginBody, RegistryOrigin } from '../origin/types.ts';
import type { BlobStore, PieceBuffer, PieceClaim } from '../store/types.ts';
import { ORIGIN_PATIENCE_MS, ORIGIN_RETRY } from './constants.ts';
import type { TransferStats } from './stats.ts';
import type { WanGate } from './wan-gate.ts';

/** What is read, and as whom. */
export interface OriginTarget {
  readonly registry: string;
  readonly repository: string;
  readonly digest: Digest;
  readonly layout: PieceLayout;
}

/** A source beyond the pool that is asked before the origin: an upstream pool. Undefined when it cannot give the range. */
export interface UpstreamSource {
  read(
    target: OriginTarget,
    start: number,
    end: number,
    signal: AbortSignal,
  ): Promise<OriginBody | undefined>;
}

interface OriginReaderComponents {
  readonly origin: Pick<RegistryOrigin, 'blob'>;
  readonly upstream: UpstreamSource | undefined;
  readonly store: Pick<BlobStore, 'buffer'>;
  readonly gate: WanGate;
  readonly stats: TransferStats;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

export interface ReadOptions {
  readonly credentials: Credentials | undefined;
  readonly priority: number;
  readonly signal: AbortSignal;
  /** Told of each chunk. */
  readonly onBytes: (count: number) => void;
  /** Told whether the origin answered a range with that range; not when a whole blob was asked and came. */
  readonly onRanged?: (ranged: boolean) => void;
  /** When the blob last moved, monotonic ms; undefined when it never has. A lost origin is waited for after that only. */
  readonly lastProgress: () => number | undefined;
}

/** The origin sends a blob from its first byte only, whatever range is asked. */
export class RangelessError extends Error {
  override readonly name = 'RangelessError';
}

/** Reads pieces over the WAN: half a piece is resumed by a range, not started over. */
export class OriginReader {
  readonly #c: OriginReaderComponents;
  readonly #self: NodeName;

  constructor(components: OriginReaderComponents, init: { self: NodeName }) {
    this.#c = components;
    this.#self = init.self;
  }

  /**
   * One piece into a buffer, hashed. The buffer is the caller's.
   * @throws RangelessError, or what the origin says
   */
  async piece(
    target: OriginTarget,
    piece: number,
    options: ReadOptions,
  ): Promise<{ buffer: PieceBuffer; claim: PieceClaim }> {
    const { start, end } = pieceRange(target.layout, piece);
    const buffer = await this.#c.store.buffer(pieceLength(target.layout, piece), options.signal);
    const hash = createHash('sha256');
    const backoff = new Backoff({ ...ORIGIN_RETRY, random: this.#c.random });
    let got = 0;
    try {
      while (start + got < end) {
        try {
          const body = await this.#open(target, start + got, end, options);
          if (body.ranged) options.onRanged?.(true);
          else if (start + got > 0 || end < target.layout.size) {
            options.onRanged?.(false);
            await drop(body);
            throw new RangelessError('the origin takes no ranges');
          }
          const take = (bytes: Uint8Array): Promise<void> | undefined => {
            hash.update(bytes);
            got += bytes.length;
            backoff.reset();
            return this.#pay(bytes.length, options);
          };
          if (body.fill !== undefined) {
            await body.fill(buffer.bytes.subarray(got, end - start), take);
            continue;
          }
          for await (const chunk of body.body) {
            const rest = end - start - got;
            const bytes = chunk.length > rest ? chunk.subarray(0, rest) : chunk;
            buffer.bytes.set(bytes, got);
            await take(bytes);
            if (start + got === end) break;
          }
        } catch (error) {
          await this.#retryOrThrow(error, backoff, options);
        }
      }
      this.#c.stats.originPieces++;
      return { buffer, claim: { sha256: hash.digest(), reader: this.#self, verified: false } };
    } catch (error) {
      buffer.release();
      throw error;
    }
  }

  /**
   * The whole blob in order, a piece at a time, for origins without ranges. `wanted` says which pieces are worth a buffer;
   * the others' bytes are passed over.
   */
  async stream(
    target: OriginTarget,
    options: ReadOptions,
    wanted: (piece: number) => boolean,
    deliver: (piece: number, buffer: PieceBuffer, claim: PieceClaim) => Promise<void>,
  ): Promise<void> {
    const body = await this.#open(target, 0, undefined, options);
    let position = 0;
    let piece = 0;
    let buffer: PieceBuffer | undefined;
    let hash = createHash('sha256');
    try {
      for await (const chunk of body.body) {
        await this.#pay(chunk.length, options);
        let offset = 0;
        while (offset < chunk.length && piece < target.layout.pieceCount) {
          const { start, end } = pieceRange(target.layout, piece);
          if (position === start && wanted(piece))
            buffer = await this.#c.store.buffer(end - start, options.signal);
          const part = chunk.subarray(offset, offset + Math.min(chunk.length - offset, end - position));
          if (buffer !== undefined) {
            buffer.bytes.set(part, position - start);
            hash.update(part);
          }
          position += part.length;
          offset += part.length;
          if (position < end) continue;
          if (buffer !== undefined) {
            const full = buffer;
            buffer = undefined;
            this.#c.stats.originPieces++;
            await deliver(piece, full, { sha256: hash.digest(), reader: this.#self, verified: false });
            hash = createHash('sha256');
          }
          piece++;
        }
      }
      if (position !== target.layout.size) {
        throw new TidepoolError(
          'ORIGIN_LIED',
          `the origin sent ${position} bytes of ${target.digest}, not ${target.layout.size}`,
        );
      }
    } finally {
      buffer?.release();
    }
  }

  async #open(
    target: OriginTarget,
    start: number,
    end: number | undefined,
    options: ReadOptions,
  ): Promise<OriginBody> {
    const { registry, repository, digest } = target;
    const stop = end ?? target.layout.size;
    if (this.#c.upstream !== undefined) {
      try {
        const body = await this.#c.upstream.read(target, start, stop, options.signal);
        if (body !== undefined) return body;
      } catch (error) {
        options.signal.throwIfAborted();
        this.#c.log.info(
          { digest, why: describeError(error) },
          'upstream pool cannot give it, asking the origin',
        );
      }
    }
    const { credentials, signal } = options;
    const body = await this.#c.origin.blob({
      registry,
      repository,
      digest,
      credentials,
      signal,
      start,
      ...(end === undefined ? {} : { end }),
    });
    if (body.size !== undefined && body.size !== target.layout.size) {
      await drop(body);
      throw new TidepoolError(
        'ORIGIN_LIED',
        `${registry} says ${digest} has ${body.size} bytes, its manifest says ${target.layout.size}`,
      );
    }
    return body;
  }

  /** Counts bytes that have come; under a cap, what is to be waited for before more are read. */
  #pay(count: number, options: ReadOptions): Promise<void> | undefined {
    const { gate, stats } = this.#c;
    stats.wanBytes += count;
    stats.wanAt = this.#c.clock.mono();
    options.onBytes(count);
    const capped = gate.rates.all !== undefined || gate.rates.prefetch !== undefined;
    return capped ? gate.take(count, options.priority, options.signal) : undefined;
  }

  /** Waits before another try while the blob moved lately; else throws what went wrong. */
  async #retryOrThrow(error: unknown, backoff: Backoff, options: ReadOptions): Promise<void> {
    options.signal.throwIfAborted();
    const passing =
      isTidepoolError(error, 'ORIGIN_UNREACHABLE') ||
      (isTidepoolError(error, 'ORIGIN_ERROR') && error.details.retryable === true);
    const moved = options.lastProgress();
    if (!passing || moved === undefined || this.#c.clock.mono() - moved > ORIGIN_PATIENCE_MS) throw error;
    this.#c.log.debug(
      { why: describeError(error), attempt: backoff.attempts },
      'origin read broke off, trying again',
    );
    await delay(this.#c.clock, 50 + backoff.next(), options.signal);
  }
}

/** Gives a body's connection back without reading it. */
async function drop(body: OriginBody): Promise<void> {
  const iterator = body.body[Symbol.asyncIterator]();
  await iterator.return?.();
}
