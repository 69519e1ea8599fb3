import type { Digest } from '../../shared/ids.ts';
import type { OpenState } from './breaker.ts';

/** What a runtime sent with `Authorization: Basic`. Kept in memory only. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface OriginRequest {
  /** The registry as runtimes name it; the origin maps it to a URL by its settings. */
  readonly registry: string;
  readonly repository: string;
  readonly credentials?: Credentials | undefined;
  /** Who may pull is the question: with these credentials or none, never with remembered ones. */
  readonly exact?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface OriginManifest {
  /** Computed from the bytes for GET, else as the origin says. */
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Absent for HEAD. At most 4 MiB. */
  readonly bytes?: Uint8Array;
  /** The origin's Date header, ms since 1970; our clock where it sends none. */
  readonly at: number;
}

export interface OriginBody {
  /** False when the origin ignored the range and sends the blob from its first byte. */
  readonly ranged: boolean;
  /** First byte that `body` yields. */
  readonly start: number;
  /** Of the whole blob, where the origin says. */
  readonly size: number | undefined;
  /** Ends early only by throwing; bytes beyond the range or the length are never yielded. Breaking out frees the connection. */
  readonly body: AsyncIterable<Uint8Array>;
  /**
   * Instead of `body`, where the connection can: fills a place without a copy and tells of bytes as they come; a promise
   * has it wait before it reads on. Resolves with how many there were, fewer than the place at the end only.
   */
  fill?(target: Uint8Array, onBytes: (bytes: Uint8Array) => Promise<void> | undefined): Promise<number>;
}

/** An answer handed through as it came. */
export interface OriginAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/**
 * Registries as one source. Anonymous first; on a challenge the token (Basic or Bearer) is fetched here with the
 * credentials given, cached per realm, service and scope, renewed before it ends; redirects are followed here, without
 * Authorization across hosts.
 *
 * Errors: UNAUTHORIZED, DENIED, NAME_UNKNOWN, MANIFEST_UNKNOWN, BLOB_UNKNOWN as the origin says; REGISTRY_NOT_CONFIGURED;
 * ORIGIN_UNREACHABLE (refused, timed out, or known to be down: then at once, with since when); ORIGIN_ERROR (5xx, 429 after
 * bounded retries); ORIGIN_LIED (wrong digest, length or range).
 */
export interface RegistryOrigin {
  /** `reference` is a tag or a digest. @throws see above */
  manifest(request: OriginRequest & { reference: string; method: 'GET' | 'HEAD' }): Promise<OriginManifest>;
  blobSize(request: OriginRequest & { digest: Digest }): Promise<number>;
  /** Bytes [start, end) of a blob; `end` undefined reads to its end. */
  blob(request: OriginRequest & { digest: Digest; start: number; end?: number }): Promise<OriginBody>;
  /** `path` after the repository: `tags/list`, `referrers/<digest>`; `query` without `ns`. */
  passThrough(
    request: OriginRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer>;
  /** Undefined while the origin answers, else since when (ms since 1970) it has not. */
  downSince(registry: string): number | undefined;
}

/** A host that requests are kept from, because it did not answer. */
export interface OpenBreaker extends OpenState {
  /** As runtimes name it. */
  readonly registry: string;
  /** The registry's own, or where it sends us: `https://cdn.example`. */
  readonly origin: string;
}
