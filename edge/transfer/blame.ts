import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Members } from '../peers/members.ts';

interface BlameComponents {
  readonly members: Pick<Members, 'self' | 'setAside'>;
}

/** Bytes that turned out wrong: who is said to have read them from the origin, and who gave them to this node. */
export interface WrongPiece {
  readonly key: BlobKey;
  readonly piece: number;
  /** By the claim that came with the bytes. */
  readonly reader: NodeName;
  /** By its certificate; undefined for what was here before this download, and for what this node read itself. */
  readonly sender: NodeName | undefined;
}

/** A member that hands on wrong bytes may be a victim itself, of each bad reader once; whoever does so in more blobs is not. */
const FORGIVEN_BLOBS = 1;
/** Forwarders remembered; the one longest not heard of goes first. */
const REMEMBERED = 256;

/**
 * Decides whom wrong bytes are held against. A claim names the reader, but nobody signs claims: a liar that writes another's
 * name into one must not cost that member its place. So a reader is set aside only when the bytes came over its own
 * connection; one that only handed them on gets the benefit of the doubt for one blob.
 */
export class Blame {
  readonly #c: BlameComponents;
  readonly #forwarded = new Map<NodeName, Set<BlobKey>>();

  constructor(components: BlameComponents) {
    this.#c = components;
  }

  wrong({ key, piece, reader, sender }: WrongPiece): void {
    if (sender === undefined || sender === this.#c.members.self) return;
    if (sender === reader) {
      this.#c.members.setAside(sender, `read piece ${piece} of ${key} wrong`);
      return;
    }
    const blobs = this.#forwarded.get(sender) ?? new Set();
    blobs.add(key);
    this.#forwarded.delete(sender);
    this.#forwarded.set(sender, blobs);
    if (blobs.size > FORGIVEN_BLOBS) {
      this.#forwarded.delete(sender);
      this.#c.members.setAside(sender, `handed on wrong bytes of ${blobs.size} blobs, last of ${key}`);
      return;
    }
    if (this.#forwarded.size <= REMEMBERED) return;
    const [oldest] = this.#forwarded.keys();
    if (oldest !== undefined) this.#forwarded.delete(oldest);
  }
}
