import { isTidepoolError } from '../../shared/errors.ts';
import { type ImageWord, overSince } from '../../shared/oci-layout/image-word.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import { type BundleImage, nameOf } from '../../shared/oci-layout/statement.ts';
import { checkSignature, type StatementFile } from '../../shared/oci-layout/statement-file.ts';
import type { ImageWords, WordTrust } from '../transfer/image-words.ts';
import type { BundleWord } from './types.ts';

export interface JudgedBundle {
  readonly word: BundleWord;
  /** Of images that the hub has signed for, in the order of the statement. */
  readonly words: readonly (ImageWord | undefined)[];
}

interface JudgeComponents {
  readonly trust: WordTrust | undefined;
  readonly words: Pick<ImageWords, 'open'>;
}

/**
 * Whose word a bundle is, before anything in it is believed.
 * @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG, BUNDLE_REFUSED for one that is out of date, or that nobody has
 * signed where that is not wanted
 */
export function judgeBundle(
  { trust, words }: JudgeComponents,
  file: StatementFile,
  { unsigned }: { readonly unsigned: boolean },
): JudgedBundle {
  const { statement, signed } = file;
  if (trust === undefined) {
    if (!unsigned) {
      throw bundleRefused(
        'this agent runs with --insecure and cannot tell who has signed it; --unsigned takes it all the same',
      );
    }
    return { word: 'nobody', words: [] };
  }
  if (signed) {
    checkSignature(file, (certificate) => trust.judge(certificate));
    const { expires } = statement;
    if (expires === undefined) throw bundleRefused('it is signed and does not say until when');
    if (trust.trustedNow() > expires) throw bundleRefused(overSince(expires));
    return { word: 'hub', words: statement.images.map((image) => wordOf(words, image)) };
  }
  const found = statement.images.map((image) => goodWord(words, image));
  if (found.every((word) => word !== undefined)) return { word: 'images', words: found };
  if (!unsigned) {
    throw bundleRefused(
      'the hub has not signed it; make it with tidepool-hub bundle create, or say --unsigned if you know where it comes from',
    );
  }
  return { word: 'nobody', words: found };
}

/** What a signed bundle carries has to be signed for the image that it stands at. */
function wordOf(words: Pick<ImageWords, 'open'>, image: BundleImage): ImageWord {
  const word = image.word === undefined ? undefined : words.open(image.word);
  if (word === undefined || !isFor(word, image)) {
    throw bundleRefused(`the hub has not signed for ${nameOf(image)} in it`);
  }
  return word;
}

function goodWord(words: Pick<ImageWords, 'open'>, image: BundleImage): ImageWord | undefined {
  try {
    return wordOf(words, image);
  } catch (error) {
    if (isTidepoolError(error)) return undefined;
    throw error;
  }
}

function isFor(word: ImageWord, image: BundleImage): boolean {
  return (
    word.registry === image.registry &&
    word.repository === image.repository &&
    word.tag === image.tag &&
    word.digest === image.digest &&
    word.open === image.open
  );
}
