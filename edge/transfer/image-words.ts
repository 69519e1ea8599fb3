import { isTidepoolError } from '../../shared/errors.ts';
import { type ImageWord, openWord } from '../../shared/oci-layout/image-word.ts';
import type { Principal } from '../../shared/trust/types.ts';
import type { DocumentTable, TagRecord } from '../index/types.ts';
import type { ToldTag } from '../peers/types.ts';
import type { Candidate } from './tags.ts';

/** How this node tells what the hub has signed; a node without a certificate cannot. */
export interface WordTrust {
  judge(certificate: Uint8Array): Principal;
  /** Wall clock, ms, as far as it can be trusted. */
  trustedNow(): number;
}

/** Of documents in the index. */
const PREFIX = 'image-word/';

interface ImageWordsComponents {
  readonly documents: DocumentTable;
  readonly trust: WordTrust | undefined;
}

export interface TagName {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
}

/**
 * What the hub has signed of tags and bundles have brought here: of each tag the newest. A neighbour that has none asks, and
 * checks the signature itself, so that one member is enough to bring a tag to all of a pool that has no way to its hub.
 */
export class ImageWords {
  readonly #c: ImageWordsComponents;

  constructor(components: ImageWordsComponents) {
    this.#c = components;
  }

  /** As it was signed; undefined where there is none. */
  signed(name: TagName): string | undefined {
    const kept = this.#c.documents.get(keyOf(name));
    return typeof kept === 'string' ? kept : undefined;
  }

  /** What is kept of a tag, where it is good still. */
  get(name: TagName): ImageWord | undefined {
    const text = this.signed(name);
    return text === undefined ? undefined : this.read(text, name);
  }

  /** A word of this tag that the hub has signed, and whose time is not over; undefined for anything else. */
  read(text: string, { registry, repository, tag }: TagName): ImageWord | undefined {
    try {
      const word = this.open(text);
      const isMeant = word?.registry === registry && word.repository === repository && word.tag === tag;
      return isMeant ? word : undefined;
    } catch (error) {
      if (isTidepoolError(error)) return undefined;
      throw error;
    }
  }

  /** @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG, BUNDLE_REFUSED */
  open(text: string): ImageWord | undefined {
    const { trust } = this.#c;
    if (trust === undefined) return undefined;
    return openWord(text, { judge: (certificate) => trust.judge(certificate), now: trust.trustedNow() });
  }

  /** Forgets words that count no longer. */
  prune(): void {
    const { documents, trust } = this.#c;
    if (trust === undefined) return;
    for (const { name, value } of documents.list(PREFIX)) {
      if (typeof value !== 'string' || !this.#isGood(value)) documents.delete(name);
    }
  }

  /** Keeps a word that was opened, unless a newer one is here. @throws TidepoolError STORE_FULL */
  keep(text: string, word: ImageWord): void {
    const { registry, repository, tag } = word;
    if (tag === undefined) return;
    const name = { registry, repository, tag };
    const known = this.get(name);
    if (known === undefined || known.at < word.at) this.#c.documents.put(keyOf(name), text);
  }

  #isGood(text: string): boolean {
    try {
      return this.open(text) !== undefined;
    } catch (error) {
      if (isTidepoolError(error)) return false;
      throw error;
    }
  }
}

/** What this node tells of a tag: its records, and with one of them what the hub has signed. */
export function recordsWith(
  records: readonly TagRecord[],
  name: TagName,
  words: Pick<ImageWords, 'get' | 'signed'> | undefined,
): readonly ToldTag[] {
  const [text, word] = [words?.signed(name), words?.get(name)];
  if (text === undefined || word === undefined) return records;
  const { digest, at } = word;
  const isKnown = records.some((record) => record.digest === digest);
  const all = isKnown ? records : [{ ...name, digest, originAt: at }, ...records];
  return all.map((record) => (record.digest === digest ? { ...record, word: text } : record));
}

/**
 * The hub's words among what else may be served for a tag: after what it says of it now, and before what is as old or
 * older. A record of this node's own that is newer than the bundle goes first: the tag has moved since.
 */
export function withWords(candidates: readonly Candidate[], words: readonly ImageWord[]): Candidate[] {
  const all = [...candidates];
  for (const { digest, at } of [...words].sort((a, b) => b.at - a.at)) {
    const isBehind = ({ by, originAt }: Candidate): boolean => by !== 'hub' && (originAt ?? 0) <= at;
    const place = all.findIndex(isBehind);
    all.splice(place < 0 ? all.length : place, 0, { digest, by: 'hub', originAt: at });
  }
  const seen = new Set<string>();
  return all.filter(({ digest }) => {
    if (seen.has(digest)) return false;
    seen.add(digest);
    return true;
  });
}

function keyOf({ registry, repository, tag }: TagName): string {
  return `${PREFIX}${registry}/${repository}:${tag}`;
}
