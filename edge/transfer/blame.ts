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

/** Members that have to hand on wrong bytes of one reader before it is set aside: a liar alone is one. */
const WITNESSES = 2;
/** Blobs of which a member has handed on wrong bytes whose reader nobody else names. Several are under way at a time. */
const FORGIVEN_BLOBS = 4;
/** Readers and forwarders remembered; the one longest not heard of goes first. */
const REMEMBERED = 256;

/**
 * Decides whom wrong bytes are held against. A claim names the reader, but nobody signs claims: a liar that writes another's
 * name into one must not cost that member its place. So a reader is set aside when the bytes came over its own connection, or
 * when several members have handed on wrong bytes as read by it; and one that hands on wrong bytes again and again, which
 * nobody else has from that reader, is set aside itself.
 */
export class Blame {
  readonly #c: BlameComponents;
  /** Who has handed on wrong bytes, by the reader that they name. */
  readonly #witnesses = new Map<NodeName, Set<NodeName>>();
  /** Blobs of which wrong bytes came, by who handed them on. */
  readonly #forwarded = new Map<NodeName, Set<BlobKey>>();

  constructor(components: BlameComponents) {
    this.#c = components;
  }

  wrong({ key, piece, reader, sender }: WrongPiece): void {
    const { self } = this.#c.members;
    if (sender === undefined || sender === self) return;
    if (sender === reader) {
      this.#c.members.setAside(sender, `read piece ${piece} of ${key} wrong`);
      remember(this.#witnesses, reader, sender);
      return;
    }
    const witnesses = remember(this.#witnesses, reader, sender);
    if (reader !== self && (witnesses.size >= WITNESSES || witnesses.has(reader))) {
      // They were its victims.
      for (const witness of witnesses) this.#forwarded.delete(witness);
      this.#c.members.setAside(
        reader,
        `read piece ${piece} of ${key} wrong, as ${witnesses.size} members have it`,
      );
      return;
    }
    const blobs = remember(this.#forwarded, sender, key);
    if (blobs.size <= FORGIVEN_BLOBS) return;
    this.#forwarded.delete(sender);
    this.#c.members.setAside(sender, `handed on wrong bytes of ${blobs.size} blobs, last of ${key}`);
  }
}

/** What is remembered of one, with one more. */
function remember<K, V>(map: Map<K, Set<V>>, name: K, value: V): Set<V> {
  const values = map.get(name) ?? new Set<V>();
  if (values.size < REMEMBERED) values.add(value);
  map.delete(name);
  map.set(name, values);
  if (map.size > REMEMBERED) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  return values;
}
