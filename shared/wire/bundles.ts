/** `POST /v1/bundles/sign`: what a bundle says of itself, for the hub to say it too. */
import * as z from 'zod';

export const MAX_BUNDLE_LIFETIME_MS = 366 * 24 * 3600_000;

export const bundleSignRequest = z.strictObject({
  /** As a bundle without a signature has it, base64. */
  statement: z.string(),
  /** How long agents shall take it. */
  lifetimeMs: z.int().min(60_000).max(MAX_BUNDLE_LIFETIME_MS),
});
export type BundleSignRequest = z.infer<typeof bundleSignRequest>;

export const bundleSigned = z.object({
  /** The bundle's first file, base64. */
  file: z.string(),
  expires: z.number(),
});
export type BundleSigned = z.infer<typeof bundleSigned>;

/** `GET /v1/pools/<pool>/inventory`: images that every node of the pool which was to have them has whole, as far as the hub was told. */
export interface PoolInventoryView {
  readonly images: readonly { readonly image: string; readonly digest: string }[];
  /** Of these nodes. */
  readonly platforms: readonly string[];
}
