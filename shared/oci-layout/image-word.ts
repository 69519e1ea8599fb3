/** What the hub says of one image of a bundle, signed: it stays true when the bundle is gone, and neighbours can check it. */
import * as z from 'zod';
import { type Digest, isDigest } from '../ids.ts';
import { isRegistryHost, isRepository } from '../image-ref.ts';
import { openMessage, type Signer, signMessage } from '../trust/envelope.ts';
import type { Principal } from '../trust/types.ts';
import { MAX_WORD_CHARS, WORD_TOPIC } from './constants.ts';
import { bundleRefused } from './refusal.ts';

const imageWord = z.strictObject({
  registry: z.string().refine(isRegistryHost, 'not a registry'),
  repository: z.string().refine(isRepository, 'not a repository'),
  tag: z.string().max(128).optional(),
  digest: z.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'not a digest'),
  open: z.boolean(),
  /** When the registry was asked, by the hub's clock, ms since 1970. */
  at: z.int().min(0),
  /** It counts no longer then. */
  expires: z.int().min(0),
});

/** The registry has answered `at` that the tag names the digest, and (`open`) did so without an account. */
export type ImageWord = z.infer<typeof imageWord>;

/** Base64. */
export function signWord(word: ImageWord, signer: Signer): string {
  return signMessage(WORD_TOPIC, Buffer.from(JSON.stringify(word)), signer).toString('base64');
}

/**
 * @param now as far as it can be trusted, ms since 1970
 * @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG, BUNDLE_REFUSED for one whose time is over
 */
export function openWord(
  text: string,
  { judge, now }: { readonly judge: (certificate: Uint8Array) => Principal; readonly now: number },
): ImageWord {
  if (text.length > MAX_WORD_CHARS) throw bundleRefused('a word of the hub is too long');
  const body = openMessage(WORD_TOPIC, Buffer.from(text, 'base64'), judge);
  const result = imageWord.safeParse(parseJson(body));
  if (!result.success) throw bundleRefused('a word of the hub says nothing that is known here');
  if (now > result.data.expires) throw bundleRefused(overSince(result.data.expires));
  return result.data;
}

export function overSince(expires: number): string {
  return `what the hub has signed counted until ${new Date(expires).toISOString()}; make another`;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}
