/** What a member holds and remembers. */
import { type BlobKey, type Digest, parseBlobKey, parseDigest } from '../../../shared/ids.ts';
import { MAX_WORD_CHARS } from '../../../shared/oci-layout/constants.ts';
import { MAX_BLOB_BYTES } from '../../../shared/pieces.ts';
import type { CustodyWord, ToldTag } from '../types.ts';
import { bad, list, number, parseRepository, record, text } from './fields.ts';

export function parseTagName(query: URLSearchParams): { registry: string; repository: string; tag: string } {
  return {
    ...parseRepository(query.get('registry'), query.get('repository')),
    tag: text(query.get('tag'), 'tag'),
  };
}

export function parseTags(json: unknown): ToldTag[] {
  return list(json, 'tags').map((item): ToldTag => {
    const fields = record(item, 'tag');
    return {
      ...parseRepository(fields.registry, fields.repository),
      tag: text(fields.tag, 'tag'),
      digest: parseDigest(text(fields.digest, 'digest')),
      originAt: number(fields.originAt, 'originAt', 0, Number.MAX_SAFE_INTEGER),
      // One that is too long is no word; the record is one all the same.
      ...(typeof fields.word === 'string' && fields.word.length <= MAX_WORD_CHARS
        ? { word: fields.word }
        : {}),
    };
  });
}

export function parseDigests(json: unknown): Digest[] {
  return list(json, 'digests').map((item) => parseDigest(text(item, 'digest')));
}

export function parseBlobKeys(json: unknown): BlobKey[] {
  return list(json, 'keys').map((item) => parseBlobKey(text(item, 'key')));
}

/** One word for each of `count` keys. */
export function parseCustodyWords(json: unknown, count: number): CustodyWord[] {
  const words = list(json, 'words').map((word): CustodyWord => {
    if (word === 'kept' || word === 'leaving' || word === 'absent') return word;
    throw bad('a word of custody is none of kept, leaving and absent');
  });
  if (words.length !== count) throw bad(`${words.length} words of custody for ${count} keys`);
  return words;
}

export function parseSize(json: unknown): number {
  return number(record(json, 'size').size, 'size', 0, MAX_BLOB_BYTES);
}
