import { signWord } from '../../shared/oci-layout/image-word.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import type { BundleImage, Statement } from '../../shared/oci-layout/statement.ts';
import { readStatementFile, signStatement } from '../../shared/oci-layout/statement-file.ts';
import type { HeldRoot } from '../trust/authority.ts';
import { type KeyPair, makeHubPair } from '../trust/issue.ts';

export interface SignInit {
  /** A statement that nobody has signed yet. */
  readonly statement: Uint8Array;
  readonly lifetimeMs: number;
  /** Wall clock, ms. */
  readonly now: number;
}

/**
 * The statement as the hub says it, and of each image a word that stays true without the bundle. Both are signed by a key
 * made for them, whose certificate ends when they do; the key itself is forgotten at once.
 * @throws TidepoolError BUNDLE_REFUSED
 */
export async function signBundle(
  components: { readonly authority: { readonly hubIssuer: HeldRoot & KeyPair } },
  { statement, lifetimeMs, now }: SignInit,
): Promise<{ readonly file: Buffer; readonly statement: Statement; readonly expires: number }> {
  const draft = readStatementFile(statement);
  if (draft.signed) throw bundleRefused('its statement is signed already');
  // The oldest root: whoever has been away knows that one, and not yet the one after it.
  const root = components.authority.hubIssuer;
  const life = Math.floor(Math.min(lifetimeMs, root.notAfter - now));
  const pair = await makeHubPair(root, { now, lifetimeMs: life });
  const [created, expires] = [Math.floor(now), Math.floor(now) + life];
  const withWord = (image: BundleImage): BundleImage => {
    const { registry, repository, tag, digest, open } = image;
    return {
      ...image,
      word: signWord({ registry, repository, tag, digest, open, at: created, expires }, pair),
    };
  };
  const signed = { ...draft.statement, created, expires, images: draft.statement.images.map(withWord) };
  return { file: signStatement(signed, pair), statement: signed, expires };
}
