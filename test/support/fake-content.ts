import type { Credentials, OriginAnswer } from '../../edge/origin/types.ts';
import type { Lease } from '../../edge/store/types.ts';
import type {
  BlobView,
  Content,
  ContentRequest,
  ManifestAnswer,
  TransferCounts,
} from '../../edge/transfer/types.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import { type Digest, digestOf } from '../../shared/ids.ts';

/** One read of a blob, as the fake saw it. */
export interface SeenRead {
  readonly start: number;
  readonly end: number;
  readonly mode: 'whole' | 'range';
  /** Bytes given out. */
  bytes: number;
  ended: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Called before each lease of a read, with its first byte; it may wait, or throw what the content shall fail with. */
export type ReadHook = (offset: number, signal: AbortSignal | undefined) => Promise<void> | void;

/**
 * Content in memory. Each lease is a copy that is overwritten when it is released: who releases before the bytes are
 * on the wire sends rubbish. Leases are counted.
 */
export class FakeContent implements Content {
  readonly requests: (ContentRequest & { readonly what: string })[] = [];
  readonly reads: SeenRead[] = [];
  readonly passed: { path: string; query: string; method: string }[] = [];
  leaseBytes = 64 * 1024;
  /** Leases out now, the most at a time, and all ever. */
  lent = 0;
  lentPeak = 0;
  lentTotal = 0;
  doubleReleases = 0;
  readers = 0;
  readersPeak = 0;
  onRead: ReadHook = () => undefined;
  /** Called before any answer about names; throws what the content shall fail with. */
  onAsk: (request: ContentRequest & { readonly what: string }) => Promise<void> | void = () => undefined;
  /** Readers that do not listen to their signal. */
  deaf = false;
  /** Added to the end of each read: content that gives too little or too much. */
  endShift = 0;
  progressAt: (() => number | undefined) | undefined;
  passThroughAnswer: OriginAnswer = { status: 200, headers: {}, body: new Uint8Array() };
  readonly #blobs = new Map<Digest, Uint8Array>();
  readonly #manifests = new Map<string, ManifestAnswer>();

  addBlob(bytes: Uint8Array): Digest {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return digest;
  }

  /** Makes a manifest known by its digest and, where one is given, by `registry/repository:tag`. */
  addManifest(bytes: Uint8Array, mediaType: string, tag?: string, staleSince?: number): Digest {
    const digest = digestOf(bytes);
    this.#manifests.set(digest, { digest, mediaType, bytes });
    if (tag !== undefined) {
      this.#manifests.set(tag, {
        digest,
        mediaType,
        bytes,
        ...(staleSince === undefined ? {} : { staleSince }),
      });
    }
    return digest;
  }

  /** The last credentials that were passed on. */
  get credentials(): Credentials | undefined {
    return this.requests.at(-1)?.credentials;
  }

  async manifest(request: ContentRequest & { reference: string }): Promise<ManifestAnswer> {
    const { registry, repository, reference } = request;
    await this.#ask(request, `manifest ${reference}`);
    const found =
      this.#manifests.get(reference) ?? this.#manifests.get(`${registry}/${repository}:${reference}`);
    if (found === undefined) {
      throw new TidepoolError('MANIFEST_UNKNOWN', `no member holds ${repository}:${reference}`);
    }
    return found;
  }

  async blob(request: ContentRequest & { digest: Digest }): Promise<BlobView> {
    await this.#ask(request, `blob ${request.digest}`);
    const bytes = this.#blobs.get(request.digest);
    if (bytes === undefined) {
      throw new TidepoolError('BLOB_UNKNOWN', `no member holds ${request.digest}`);
    }
    const { progressAt } = this;
    return {
      size: bytes.length,
      read: (range) => this.#read(bytes, range),
      ...(progressAt === undefined ? {} : { progressAt }),
    };
  }

  fill(): Promise<TransferCounts> {
    return Promise.reject(new TidepoolError('INTERNAL', 'the fake content fills nothing'));
  }

  async passThrough(
    request: ContentRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer> {
    const { path, query, method } = request;
    this.passed.push({ path, query, method });
    await this.#ask(request, path);
    return this.passThroughAnswer;
  }

  async #ask(request: ContentRequest, what: string): Promise<void> {
    const seen = { ...request, what };
    this.requests.push(seen);
    await this.onAsk(seen);
  }

  async *#read(
    bytes: Uint8Array,
    range: { start: number; end: number; mode: 'whole' | 'range'; signal?: AbortSignal },
  ): AsyncGenerator<Lease> {
    const { start, mode, signal } = range;
    const end = range.end + this.endShift;
    const seen: SeenRead = { start, end, mode, bytes: 0, ended: false, signal };
    this.reads.push(seen);
    this.readers++;
    this.readersPeak = Math.max(this.readersPeak, this.readers);
    try {
      for (let offset = start; offset < end; ) {
        const hooked = this.onRead(offset, signal);
        if (hooked !== undefined)
          await (signal === undefined || this.deaf ? hooked : raceAbort(hooked, signal));
        if (!this.deaf) signal?.throwIfAborted();
        const part = Uint8Array.from(bytes.subarray(offset, Math.min(end, offset + this.leaseBytes)));
        offset += part.length;
        seen.bytes += part.length;
        yield this.#lend(part);
      }
    } finally {
      seen.ended = true;
      this.readers--;
    }
  }

  #lend(bytes: Uint8Array): Lease {
    this.lent++;
    this.lentTotal++;
    this.lentPeak = Math.max(this.lentPeak, this.lent);
    let released = false;
    return {
      bytes,
      release: () => {
        if (released) this.doubleReleases++;
        else this.lent--;
        released = true;
        bytes.fill(0xee);
      },
    };
  }
}
