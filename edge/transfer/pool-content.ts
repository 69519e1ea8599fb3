import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, Digest, NodeName } from '../../shared/ids.ts';
import { layoutOf } from '../../shared/pieces.ts';
import type { Index } from '../index/types.ts';
import type { OriginAnswer, RegistryOrigin } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type { PeerClient } from '../peers/types.ts';
import type { BlobStore, Lease, StoredBlob, StoreRoom } from '../store/types.ts';
import type { ApartReader } from './access/apart-reader.ts';
import { type ContentScope, outsideScope } from './access/content-scope.ts';
import type { Provenance } from './access/provenance.ts';
import type { ScopeCheck } from './access/scope-check.ts';
import { askAll } from './ask-all.ts';
import { ASK_WAIT_MS, READ_BYTES, WHOLE_ATTEMPTS } from './constants.ts';
import type { Download } from './download.ts';
import type { Interest } from './interest.ts';
import type { Manifests } from './manifests.ts';
import type { PassReader } from './pass-reader.ts';
import type { Swarms } from './swarms.ts';
import {
  type BlobView,
  type Content,
  type ContentRequest,
  type ManifestAnswer,
  PRIORITY,
  type TransferCounts,
} from './types.ts';

interface PoolContentComponents {
  readonly index: Pick<Index, 'sizes'>;
  readonly store: BlobStore;
  readonly origin: Pick<RegistryOrigin, 'blobSize' | 'passThrough' | 'downSince'>;
  readonly client: Pick<PeerClient, 'holdings' | 'size'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly manifests: Manifests;
  readonly swarms: Swarms;
  readonly scope: Pick<ContentScope, 'get'>;
  readonly scopeCheck: Pick<ScopeCheck, 'ensure'>;
  readonly provenance: Pick<Provenance, 'mayShare' | 'begin' | 'prove'>;
  readonly apart: Pick<ApartReader, 'read'>;
  /** For a full disk: whether there is room, and how to do without. Absent: what finds no room fails. */
  readonly passing?: { readonly room: StoreRoom; readonly reader: Pick<PassReader, 'read'> };
  readonly clock: Clock;
}

interface ReadRange {
  readonly start: number;
  readonly end: number;
  readonly mode: 'whole' | 'range';
  readonly signal?: AbortSignal;
  /** Told of a download that keeps nothing. */
  readonly onPass: (download: Download) => void;
}

/** How far a reader has got, and what it was given, for the case that the disk fills up meanwhile. */
interface ReadProgress {
  position: number;
  readonly sent: Map<number, Uint8Array>;
}

type BlobRequest = ContentRequest & { readonly digest: Digest };

/** The pool as one source of verified content. */
export class PoolContent implements Content {
  readonly #c: PoolContentComponents;

  constructor(components: PoolContentComponents) {
    this.#c = components;
  }

  manifest(request: ContentRequest & { reference: string }): Promise<ManifestAnswer> {
    return this.#c.manifests.get(request);
  }

  passThrough(
    request: ContentRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer> {
    return this.#c.origin.passThrough(request);
  }

  /** @throws TidepoolError DENIED for a blob that is not known to be of the repository */
  async blob(request: BlobRequest): Promise<BlobView> {
    await this.#c.store.reach?.(request.digest, request.signal);
    await this.#c.scopeCheck.ensure(request);
    const size = await this.#size(request);
    await this.#checkReach(request);
    let passing: Download | undefined;
    const onPass = (download: Download): void => {
      passing = download;
    };
    return {
      size,
      read: (range) => this.#read(request, size, { ...range, onPass }),
      progressAt: () => (passing ?? this.#c.swarms.get(request.digest))?.progressAt,
    };
  }

  async fill(
    request: BlobRequest & { onProgress?: (counts: Readonly<TransferCounts>, size: number) => void },
  ): Promise<TransferCounts> {
    await this.#c.store.reach?.(request.digest, request.signal);
    await this.#c.scopeCheck.ensure(request);
    const size = await this.#size(request);
    if (!this.#c.provenance.mayShare(request.registry, request.digest)) await this.#prove(request, size);
    const held = this.#c.store.get(request.digest);
    if (held?.whole === true) {
      const counts = { wanBytes: 0, peerBytes: 0, localBytes: size };
      request.onProgress?.(counts, size);
      return counts;
    }
    if (this.#c.passing?.room.open === false) {
      throw new TidepoolError(
        'STORE_FULL',
        `no room to keep ${request.digest}: free some space on this node`,
      );
    }
    const download = this.#open(request, size);
    const interest: Interest = {
      mode: 'whole',
      priority: request.priority ?? PRIORITY.prefetch,
      cursor: 0,
      end: download.stored.layout.pieceCount,
    };
    const leave = download.enter(interest);
    try {
      for (let piece = 0; piece < download.stored.layout.pieceCount; piece++) {
        await download.piece(piece, request.signal);
        request.onProgress?.(download.counts, size);
      }
      await download.whole(request.signal);
      request.onProgress?.(download.counts, size);
      return { ...download.counts };
    } finally {
      leave();
    }
  }

  async *#read(request: BlobRequest, size: number, range: ReadRange): AsyncGenerator<Lease> {
    const { start, signal } = range;
    const end = Math.min(range.end, size);
    if (!this.#c.provenance.mayShare(request.registry, request.digest)) {
      yield* this.#c.apart.read(request, size, { start, end, signal, onDownload: range.onPass });
      return;
    }
    const progress: ReadProgress = { position: start, sent: new Map() };
    if (yield* this.#whole(request.digest, end, progress, signal)) return;
    const { passing } = this.#c;
    if (passing === undefined || passing.room.open) {
      try {
        yield* this.#keeping(request, size, range, progress);
        return;
      } catch (error) {
        if (passing === undefined || !isTidepoolError(error, 'STORE_FULL')) throw error;
        // It may have been the index that took no row: then nobody has asked for room yet.
        void passing.room.make();
      }
    }
    yield* passing.reader.read(request, size, { ...progress, start, end, signal, onDownload: range.onPass });
  }

  /**
   * Reads as long as the blob is whole here: it may go on the way, or lie in another file of this node's from one read to the
   * next. True when nothing is left to read.
   */
  async *#whole(
    key: BlobKey,
    end: number,
    progress: ReadProgress,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Lease, boolean> {
    for (let lost = 0; lost < WHOLE_ATTEMPTS; ) {
      const held = this.#c.store.get(key);
      if (held?.whole !== true) return false;
      try {
        while (progress.position < end) {
          signal?.throwIfAborted();
          const { position } = progress;
          const lease = await held.lease(position, Math.min(READ_BYTES, end - position));
          progress.position += lease.bytes.length;
          lost = 0;
          yield lease;
        }
        return true;
      } catch (error) {
        if (!isTidepoolError(error, 'PIECE_NOT_HELD')) throw error;
        lost++;
      }
    }
    return false;
  }

  /** Reads while the blob comes into the store. @throws TidepoolError STORE_FULL, with `progress` saying how far it got */
  async *#keeping(
    request: BlobRequest,
    size: number,
    range: ReadRange,
    progress: ReadProgress,
  ): AsyncGenerator<Lease> {
    const { signal } = range;
    const end = Math.min(range.end, size);
    const download = this.#open(request, size);
    const { stored } = download;
    const { layout } = stored;
    const interest: Interest = {
      mode: range.mode,
      priority: request.priority ?? PRIORITY.onDemand,
      cursor: Math.floor(progress.position / layout.pieceSize),
      end: Math.ceil(end / layout.pieceSize),
    };
    const leave = download.enter(interest);
    try {
      while (progress.position < end) {
        const { position } = progress;
        const piece = Math.floor(position / layout.pieceSize);
        interest.cursor = piece;
        await this.#ready(download, piece, range);
        if (download.mender.replacedBefore(position) && haveChanged(progress.sent, stored))
          throw mismatch(request.digest);
        const lease = await this.#lease(download, position, end, signal);
        const claim = progress.sent.has(piece) ? undefined : stored.claim(piece);
        if (claim !== undefined) progress.sent.set(piece, claim.sha256);
        progress.position += lease.bytes.length;
        yield lease;
      }
      // An empty blob has no piece to wait for, and its digest is checked all the same.
      if (size === 0 && range.mode === 'whole') await download.whole(signal);
    } finally {
      leave();
    }
  }

  /**
   * Waits for a piece; the last one of a whole blob only counts once the blob's digest has been verified, and none does while
   * some are known to be wrong.
   */
  async #ready(
    download: Download,
    piece: number,
    range: { mode: 'whole' | 'range'; signal?: AbortSignal },
  ): Promise<void> {
    const last = piece === download.stored.layout.pieceCount - 1;
    if ((range.mode === 'whole' && last) || download.mender.mending) await download.whole(range.signal);
    else await download.piece(piece, range.signal);
  }

  /** A piece may be dropped between its coming and its being read, when the blob is mended: then it is waited for again. */
  async #lease(
    download: Download,
    position: number,
    end: number,
    signal: AbortSignal | undefined,
  ): Promise<Lease> {
    const { stored } = download;
    for (let attempt = 0; ; attempt++) {
      try {
        return await stored.lease(position, Math.min(READ_BYTES, end - position));
      } catch (error) {
        if (attempt > 0 || !isTidepoolError(error, 'PIECE_NOT_HELD')) throw error;
        await download.piece(Math.floor(position / stored.layout.pieceSize), signal);
      }
    }
  }

  /** Has every byte come under this name: only then may those that are here be served under it. */
  async #prove(request: BlobRequest, size: number): Promise<void> {
    const range = { start: 0, end: size, signal: request.signal, onDownload: () => undefined };
    for await (const lease of this.#c.apart.read(request, size, range)) lease.release();
  }

  #open(request: BlobRequest, size: number): Download {
    const { registry, repository, digest } = request;
    this.#c.provenance.begin(registry, digest);
    const download = this.#c.swarms.open({ registry, repository, key: digest as BlobKey, size });
    if (request.credentials !== undefined) download.credentials = request.credentials;
    return download;
  }

  async #size(request: BlobRequest): Promise<number> {
    const { digest } = request;
    const said = this.#c.scope.get(request, digest)?.size;
    if (!this.#c.provenance.mayShare(request.registry, digest)) return said ?? (await this.#askSize(request));
    const held = this.#c.store.get(digest);
    if (held?.whole === true) return held.layout.size;
    const size = said ?? this.#c.index.sizes.get(digest) ?? (await this.#askSize(request));
    // Begun by the word of a member that was wrong: nothing of it is of use.
    if (held !== undefined && held.layout.size !== size && this.#c.swarms.get(digest)?.active !== true) {
      await this.#c.store.remove(digest);
    }
    return size;
  }

  async #askSize(request: BlobRequest): Promise<number> {
    const { digest } = request;
    try {
      const size = await this.#c.origin.blobSize(request);
      layoutOf(size);
      this.#c.index.sizes.put([[digest, size]]);
      return size;
    } catch (error) {
      if (!isTidepoolError(error, 'ORIGIN_UNREACHABLE')) throw error;
      const size = (await this.#sizeInPool(request)) ?? this.#c.store.get(digest)?.layout.size;
      if (size === undefined) throw error;
      return size;
    }
  }

  /**
   * What members say that hold the blob whole; not written down, since only the blob's digest proves it.
   * @throws TidepoolError SIZE_MISMATCH when as many say one size as another
   */
  async #sizeInPool({ digest, signal, ...name }: BlobRequest): Promise<number | undefined> {
    const answers = await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => this.#c.client.size(member, digest, name, inner),
      enough: () => false,
    });
    const named = new Map<number, NodeName[]>();
    for (const { member, value } of answers) {
      if (value !== undefined) named.set(value, [...(named.get(value) ?? []), member.node]);
    }
    const [first, second] = [...named].sort(([, a], [, b]) => b.length - a.length);
    if (first !== undefined && second?.[1].length === first[1].length) {
      throw new TidepoolError(
        'SIZE_MISMATCH',
        `the origin cannot be asked for the size of ${digest}, and ${first[1].join(', ')} say ${first[0]} bytes, ${second[1].join(', ')} say ${second[0]}`,
      );
    }
    return first?.[0];
  }

  /** A blob is promised only when it can be had: from here, from a member, or from an origin that is not known to be down. */
  async #checkReach(request: BlobRequest): Promise<void> {
    const { registry, digest } = request;
    const since = this.#c.origin.downSince(registry);
    if (!this.#c.provenance.mayShare(registry, digest)) {
      if (since === undefined || (await this.#inPool(request))) return;
      const why = `what is here came from another registry, or it is not known any more from which; no member that can be reached has it from this one, which has not answered since ${new Date(since).toISOString()}`;
      throw outsideScope(request, digest, why);
    }
    const held: StoredBlob | undefined = this.#c.store.get(digest);
    if (held?.whole === true || held?.have.full === true) return;
    if (since === undefined || this.#c.swarms.get(digest)?.active === true) return;
    if (await this.#inPool(request)) return;
    throw new TidepoolError(
      'ORIGIN_UNREACHABLE',
      `no member that can be reached holds ${digest}, and ${registry} has not answered since ${new Date(since).toISOString()}`,
    );
  }

  /** Whether a member holds it under this name. */
  async #inPool(request: BlobRequest): Promise<boolean> {
    const answers = await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, request.signal, {
      ask: (member, signal) => this.#c.client.holdings(member, [request.digest], request, signal),
      enough: (digests) => digests.length > 0,
    });
    return answers.some(({ value }) => value.length > 0);
  }
}

/** Whether a piece that was sent is another one now. Who began to read later was sent the right one. */
function haveChanged(sent: ReadonlyMap<number, Uint8Array>, stored: StoredBlob): boolean {
  for (const [piece, sha256] of sent) {
    const now = stored.claim(piece)?.sha256;
    if (now === undefined || Buffer.compare(now, sha256) !== 0) return true;
  }
  return false;
}

function mismatch(digest: Digest): TidepoolError {
  return new TidepoolError(
    'DIGEST_MISMATCH',
    `bytes of ${digest} that were sent before turned out wrong; pull it again`,
  );
}
