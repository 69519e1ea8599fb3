import type { Digest } from '../../shared/ids.ts';
import type { ImageRef } from '../../shared/image-ref.ts';

export interface Account {
  readonly username: string;
  readonly password: string;
}

export interface Manifest {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

/** What the hub asks registries. */
export interface RegistryReader {
  /**
   * The digest that the image's tag names now.
   * @throws TidepoolError NAME_UNKNOWN or MANIFEST_UNKNOWN, UNAUTHORIZED or DENIED, ORIGIN_UNREACHABLE, ORIGIN_ERROR,
   * ORIGIN_LIED, or the signal's reason
   */
  digest(image: ImageRef, account: Account | undefined, signal: AbortSignal): Promise<Digest>;
  /** A manifest by its digest, checked against it. Throws as {@link digest} does. */
  manifest(image: ImageRef, account: Account | undefined, signal: AbortSignal): Promise<Manifest>;
}

/** What bundles are made from: manifests, and blobs whole. */
export interface ContentReader extends RegistryReader {
  /** Its bytes as they come, not checked against the digest; over a connection that breaks, from where it broke. Throws as {@link RegistryReader.digest} does. */
  blob(
    image: ImageRef,
    digest: Digest,
    account: Account | undefined,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
}

/** Where a registry is, when that is not https at its own name. */
export interface RegistryEntry {
  /** Base URL: `http://10.0.0.1:5000`. */
  readonly url: string;
  /** Certificates in PEM form to trust, in place of the usual ones. */
  readonly ca?: string;
}
