import { beforeAll, describe, expect, it } from 'vitest';
import { ImageWords, recordsWith, withWords } from '../../../../edge/transfer/image-words.ts';
import type { Candidate } from '../../../../edge/transfer/tags.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { type ImageWord, signWord } from '../../../../shared/oci-layout/image-word.ts';
import { memoryIndex } from '../../../support/memory-index.ts';
import { DAY_MS, TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const NAME = { registry: 'reg.example', repository: 'lab/app', tag: 'v1' };
const NOW = Date.now();
const digest = (seed: string): Digest => digestOf(Buffer.from(seed));

let hub: TestIdentity;
let node: TestIdentity;
let stranger: TestIdentity;
beforeAll(async () => {
  const authority = await TestAuthority.make();
  [hub, node] = await Promise.all([authority.hub(), authority.node('n1', 'shop-1')]);
  stranger = await (await TestAuthority.make('stranger')).hub();
});

function word(more: Partial<ImageWord> = {}): ImageWord {
  return { ...NAME, digest: digest('a'), open: true, at: NOW, expires: NOW + DAY_MS, ...more };
}

function wordsOf(now = NOW): ImageWords {
  const trust = { judge: (shown: Uint8Array) => node.judge(shown), trustedNow: () => now };
  return new ImageWords({ documents: memoryIndex().documents, trust });
}

describe('a word of the hub', () => {
  it('counts for its tag while its time lasts, by whoever it comes', () => {
    const text = signWord(word(), hub.current());
    expect(wordsOf().read(text, NAME)).toEqual(word());
    expect(wordsOf(NOW + 2 * DAY_MS).read(text, NAME)).toBeUndefined();
    expect(wordsOf().read(text, { ...NAME, tag: 'v2' })).toBeUndefined();
    expect(wordsOf().read(text, { ...NAME, repository: 'lab/other' })).toBeUndefined();
  });

  it('is none where the hub has not signed it', () => {
    const said = word();
    expect(wordsOf().read(signWord(said, stranger.current()), NAME)).toBeUndefined();
    // A member of the pool has a good certificate, and may still not speak for the hub.
    expect(wordsOf().read(signWord(said, node.current()), NAME)).toBeUndefined();
    const text = Buffer.from(signWord(said, hub.current()), 'base64').toString('latin1');
    const moved = text.replace(digest('a'), digest('b'));
    expect(moved).not.toBe(text);
    expect(wordsOf().read(Buffer.from(moved, 'latin1').toString('base64'), NAME)).toBeUndefined();
    expect(wordsOf().read('nonsense', NAME)).toBeUndefined();
    expect(wordsOf().read('A'.repeat(100_000), NAME)).toBeUndefined();
  });

  it('is kept unless a newer one is here', () => {
    const words = wordsOf();
    const [older, newer] = [word({ at: NOW - 5_000 }), word({ digest: digest('b') })];
    for (const each of [newer, older]) words.keep(signWord(each, hub.current()), each);
    expect(words.get(NAME)).toEqual(newer);
  });

  it('is forgotten when its time is over', () => {
    const { documents } = memoryIndex();
    const at = (now: number): ImageWords =>
      new ImageWords({
        documents,
        trust: { judge: (shown) => node.judge(shown), trustedNow: () => now },
      });
    at(NOW).keep(signWord(word(), hub.current()), word());
    at(NOW).prune();
    expect(at(NOW).get(NAME)).toEqual(word());
    at(NOW + 2 * DAY_MS).prune();
    expect(at(NOW).signed(NAME)).toBeUndefined();
  });

  it('goes to neighbours with the record that it is about', () => {
    const words = wordsOf();
    const text = signWord(word(), hub.current());
    const own = [{ ...NAME, digest: digest('b'), originAt: NOW + 5 }];
    expect(recordsWith(own, NAME, words)).toEqual(own);
    words.keep(text, word());
    expect(recordsWith(own, NAME, words)).toEqual([
      { ...NAME, digest: digest('a'), originAt: NOW, word: text },
      ...own,
    ]);
    const same = [{ ...NAME, digest: digest('a'), originAt: NOW - 9 }];
    expect(recordsWith(same, NAME, words)).toEqual([{ ...same[0], word: text }]);
  });
});

describe('what may be served for a tag', () => {
  const candidate = (seed: string, by: Candidate['by'], originAt: number | undefined): Candidate => {
    return { digest: digest(seed), by, originAt };
  };

  it('is the hub’s word after what it pins, and before what is older', () => {
    const pin = candidate('p', 'hub', undefined);
    const own = candidate('o', 'own', 50);
    const agreed = candidate('m', 'members', 70);
    const said = [word({ digest: digest('x'), at: 60 }), word({ digest: digest('y'), at: 90 })];
    expect(withWords([pin, own, agreed], said).map(({ digest: each }) => each)).toEqual(
      ['p', 'y', 'x', 'o', 'm'].map(digest),
    );
  });

  it('is a record of this node’s own first, where that is newer than the bundle', () => {
    const own = candidate('o', 'own', 50);
    const said = [word({ digest: digest('x'), at: 40 })];
    expect(withWords([own], said).map(({ digest: each }) => each)).toEqual(['o', 'x'].map(digest));
    expect(withWords([own], [word({ digest: own.digest, at: 40 })])).toEqual([own]);
    expect(withWords([], said)).toEqual([candidate('x', 'hub', 40)]);
  });
});
