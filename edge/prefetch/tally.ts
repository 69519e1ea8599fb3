import type { Digest } from '../../shared/ids.ts';
import type { TransferCounts } from '../transfer/types.ts';

export interface PullProgress {
  /** Blobs of the image that are wanted; manifests are not counted. 0 until they are known. */
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly blobs: number;
  readonly blobsDone: number;
}

interface Entry {
  readonly size: number;
  done: number;
  whole: boolean;
  /** Of downloads that have ended. */
  past: { wan: number; peer: number };
  now: { wan: number; peer: number };
}

/** Sums what the blobs of one image tell of themselves, over all attempts at it. */
export class Tally {
  readonly #entries = new Map<Digest, Entry>();

  /** An attempt begins, with these blobs. */
  begin(blobs: readonly { readonly digest: Digest; readonly size: number }[]): void {
    for (const { digest, size } of blobs) {
      if (this.#entries.has(digest)) continue;
      const none = { wan: 0, peer: 0 };
      this.#entries.set(digest, { size, done: 0, whole: false, past: none, now: none });
    }
  }

  moved(digest: Digest, counts: Readonly<TransferCounts>): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    const { wanBytes: wan, peerBytes: peer, localBytes } = counts;
    // Counts grow for as long as one download lives, also over attempts; smaller ones are those of the next download.
    if (wan < entry.now.wan || peer < entry.now.peer) {
      entry.past = { wan: entry.past.wan + entry.now.wan, peer: entry.past.peer + entry.now.peer };
    }
    entry.now = { wan, peer };
    // Pieces that were read again count as traffic twice, but the blob has no more bytes than its size.
    entry.done = Math.min(entry.size, wan + peer + localBytes);
  }

  whole(digest: Digest, counts: Readonly<TransferCounts>): void {
    this.moved(digest, counts);
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    entry.whole = true;
    entry.done = entry.size;
  }

  progress(): PullProgress {
    const sum = { totalBytes: 0, doneBytes: 0, wanBytes: 0, peerBytes: 0, blobs: 0, blobsDone: 0 };
    for (const { size, done, whole, past, now } of this.#entries.values()) {
      sum.totalBytes += size;
      sum.doneBytes += done;
      sum.wanBytes += past.wan + now.wan;
      sum.peerBytes += past.peer + now.peer;
      sum.blobs++;
      if (whole) sum.blobsDone++;
    }
    return sum;
  }
}
