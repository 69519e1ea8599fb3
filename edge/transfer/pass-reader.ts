import { createHash, type Hash } from 'node:crypto';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, Digest } from '../../shared/ids.ts';
import { type PieceLayout, pieceRange } from '../../shared/pieces.ts';
import type { BlobStore, Lease, PassingStore, StoredBlob } from '../store/types.ts';
import { READ_BYTES } from './constants.ts';
import type { Download } from './download.ts';
import type { Interest } from './interest.ts';
import type { TransferStats } from './stats.ts';
import type { Swarms } from './swarms.ts';
import { type ContentRequest, PRIORITY } from './types.ts';

interface PassReaderComponents {
  readonly store: Pick<BlobStore, 'get'> & PassingStore;
  readonly swarms: Pick<Swarms, 'pass'>;
  readonly stats: Pick<TransferStats, 'passedBytes'>;
}

/** Times that a piece is fetched whose memory was wanted for others before it could be read. */
const ATTEMPTS = 5;

/** What a reader was given of a blob before the store was full, by piece: the sha256 of each. */
export type SentPieces = ReadonlyMap<number, Uint8Array>;

interface Bounds {
  readonly start: number;
  readonly end: number;
}

interface PassRange extends Bounds {
  /** From here on bytes are still to be given out. */
  readonly position: number;
  readonly sent: SentPieces;
  readonly signal: AbortSignal | undefined;
  /** Told of each download that begins, for whoever watches whether it gets on. */
  readonly onDownload: (download: Download) => void;
  /** Set where nothing that is here of the blob counts: told when all of it has come under this name and is verified. */
  readonly onProven?: () => void;
}

/**
 * Reads a blob through a node that has no room to keep it. Each piece comes from a member that has it, or that is about to
 * fetch it for the others, and only where there is none from the origin; it is given to the reader and forgotten. What is
 * here of the blob already is read from disk, but where the reader wants all of it anew.
 */
export class PassReader {
  readonly #c: PassReaderComponents;

  constructor(components: PassReaderComponents) {
    this.#c = components;
  }

  /**
   * Bytes [position, end) in order. Where the range is the whole blob, the last piece is given out only when the digest of
   * all of it has been verified, also of what was given out before.
   * @throws TidepoolError DIGEST_MISMATCH, or what a download throws
   */
  async *read(
    request: ContentRequest & { readonly digest: Digest },
    size: number,
    range: PassRange,
  ): AsyncGenerator<Lease> {
    const { registry, repository, digest, credentials } = request;
    const { start, end, position, signal } = range;
    const key: BlobKey = digest;
    const anew = range.onProven !== undefined;
    const passing = this.#c.store.pass(key, size, { anew });
    const download = this.#c.swarms.pass({ registry, repository, key, size }, passing);
    if (credentials !== undefined) download.credentials = credentials;
    range.onDownload(download);
    const { layout } = passing;
    const hash = start === 0 && end === size ? createHash('sha256') : undefined;
    const finish = (all: Hash): void => {
      check(digest, all);
      range.onProven?.();
    };
    const from = Math.floor((hash === undefined ? position : start) / layout.pieceSize);
    const interest: Interest = {
      mode: 'range',
      priority: request.priority ?? PRIORITY.onDemand,
      cursor: from,
      end: Math.ceil(end / layout.pieceSize),
    };
    const leave = download.enter(interest);
    try {
      for (let piece = from; piece * layout.pieceSize < end; piece++) {
        signal?.throwIfAborted();
        const at = pieceRange(layout, piece);
        interest.cursor = piece;
        passing.seek(piece);
        const kept = anew ? undefined : this.#kept(key, layout, piece);
        if (Math.max(at.start, start) < position)
          await this.#checkSent(kept ?? download, piece, range, digest);
        const wanted = { start: Math.max(at.start, position), end: Math.min(at.end, end) };
        const last = hash !== undefined && at.end === size ? hash : undefined;
        let done = hash === undefined ? wanted.start : at.start;
        if (kept !== undefined && last === undefined) {
          done = yield* this.#fromDisk(kept, { start: done, end: wanted.end }, wanted, hash);
        } else if (kept !== undefined && last !== undefined) {
          const all = await digestWith(kept, at, last);
          if (all !== undefined) {
            finish(all);
            done = yield* this.#fromDisk(kept, wanted, wanted, undefined);
            if (done < wanted.end) throw lost(digest, piece);
          }
        }
        if (kept !== undefined && done === wanted.end) continue;
        const lease = await this.#whole(download, piece, signal);
        try {
          hash?.update(lease.bytes.subarray(done - at.start));
          if (last !== undefined) finish(last);
        } catch (error) {
          lease.release();
          throw error;
        }
        // The lease stays good; nobody else will ask for the piece.
        await passing.drop([piece]);
        const bytes = lease.bytes.subarray(Math.max(done, wanted.start) - at.start, wanted.end - at.start);
        if (bytes.length === 0) {
          lease.release();
          continue;
        }
        if (!anew) this.#c.stats.passedBytes += bytes.length;
        yield { bytes, release: () => lease.release() };
      }
      if (hash !== undefined && size === 0) finish(hash);
    } finally {
      leave();
      passing.close();
      await download.close();
    }
  }

  /** The blob on disk, where the piece can be read from there. */
  #kept(key: BlobKey, layout: PieceLayout, piece: number): StoredBlob | undefined {
    const kept = this.#c.store.get(key);
    return kept?.layout.size === layout.size && kept.have.has(piece) ? kept : undefined;
  }

  /**
   * Digests bytes of a piece and gives those out that are wanted; returns how far it came: the disk may lose the piece, or be
   * made to, while it is read.
   */
  async *#fromDisk(
    kept: StoredBlob,
    part: Bounds,
    wanted: Bounds,
    hash: Hash | undefined,
  ): AsyncGenerator<Lease, number> {
    let position = part.start;
    while (position < part.end) {
      const lease = await leaseOf(kept, position, part.end);
      if (lease === undefined) break;
      const from = Math.max(0, wanted.start - position);
      hash?.update(lease.bytes);
      position += lease.bytes.length;
      const bytes = lease.bytes.subarray(from);
      if (bytes.length === 0) lease.release();
      else yield { bytes, release: () => lease.release() };
    }
    return position;
  }

  /** All of a piece. It may give way to others between its coming and its being read: then it has to come again. */
  async #whole(download: Download, piece: number, signal: AbortSignal | undefined): Promise<Lease> {
    const { stored } = download;
    const { start, end } = pieceRange(stored.layout, piece);
    for (let attempt = 1; ; attempt++) {
      await download.piece(piece, signal);
      try {
        return await stored.lease(start, end - start);
      } catch (error) {
        if (attempt === ATTEMPTS || !isTidepoolError(error, 'PIECE_NOT_HELD')) throw error;
      }
    }
  }

  /** @throws TidepoolError DIGEST_MISMATCH when the reader was given other bytes than those that are digested now */
  async #checkSent(
    from: StoredBlob | Download,
    piece: number,
    { sent, signal }: PassRange,
    digest: Digest,
  ): Promise<void> {
    if ('stored' in from) await from.piece(piece, signal);
    const held = 'stored' in from ? from.stored : from;
    const before = sent.get(piece);
    const now = held.claim(piece)?.sha256;
    if (before !== undefined && now !== undefined && Buffer.compare(before, now) === 0) return;
    throw new TidepoolError(
      'DIGEST_MISMATCH',
      `bytes of ${digest} that were sent before the disk was full cannot be verified any more; pull it again`,
    );
  }
}

/** The digest of what came before and a piece on disk; undefined when that is gone. */
async function digestWith(kept: StoredBlob, { start, end }: Bounds, before: Hash): Promise<Hash | undefined> {
  const hash = before.copy();
  for (let position = start; position < end; ) {
    const lease = await leaseOf(kept, position, end);
    if (lease === undefined) return undefined;
    hash.update(lease.bytes);
    position += lease.bytes.length;
    lease.release();
  }
  return hash;
}

async function leaseOf(kept: StoredBlob, start: number, end: number): Promise<Lease | undefined> {
  try {
    return await kept.lease(start, Math.min(READ_BYTES, end - start));
  } catch (error) {
    if (isTidepoolError(error, 'PIECE_NOT_HELD')) return undefined;
    throw error;
  }
}

function lost(digest: Digest, piece: number): TidepoolError {
  return new TidepoolError('PIECE_NOT_HELD', `the disk has lost piece ${piece} of ${digest}; pull it again`);
}

function check(digest: Digest, hash: Hash): void {
  if (digest === `sha256:${hash.digest('hex')}`) return;
  throw new TidepoolError(
    'DIGEST_MISMATCH',
    `what the pool and its registry gave for ${digest} does not match that digest; pull it again`,
  );
}
