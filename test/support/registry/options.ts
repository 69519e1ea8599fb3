import type { Digest } from '../../../shared/ids.ts';

export type RequestKind =
  | 'ping'
  | 'manifest'
  | 'blob'
  | 'tags'
  | 'referrers'
  | 'token'
  | 'redirected-blob'
  | 'other';

/** One request as faults and the log see it. */
export interface SampleRequest {
  readonly kind: RequestKind;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly repository: string | undefined;
  /** Tag or digest, as asked for. */
  readonly reference: string | undefined;
  readonly address: string;
  readonly pool: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface LoggedRequest extends SampleRequest {
  /** 0 while it is under way, or where the connection was cut before an answer. */
  readonly status: number;
  readonly bytes: number;
}

/** What goes wrong with one answer; fields combine. */
export interface Fault {
  /** Answers with this status and an OCI error body. */
  readonly status?: number;
  /** Seconds, in a Retry-After header. */
  readonly retryAfter?: number;
  readonly delayMs?: number;
  /** Destroys the connection without an answer. */
  readonly reset?: boolean;
  /** Never answers. */
  readonly hang?: boolean;
  /** Destroys the connection after so many bytes of the body. */
  readonly cutAfter?: number;
  /** Sends nothing more after so many bytes of the body, and keeps the connection. */
  readonly stallAfter?: number;
  /** Inverts one byte in each chunk. */
  readonly wrongBytes?: boolean;
  /** In place of the true one; the body is cut or padded with zeros to it. */
  readonly contentLength?: number;
  /** In place of the true one; null leaves it out. */
  readonly contentDigest?: string | null;
  readonly contentRange?: string;
  /** Set over all the others. */
  readonly headers?: Readonly<Record<string, string>>;
  /** In place of the true body. */
  readonly body?: Uint8Array;
}

export interface AuthInit {
  readonly kind: 'basic' | 'bearer';
  readonly username: string;
  readonly password: string;
  /** Pulls need no account (with 'bearer': an anonymous token). */
  readonly anonymousPull?: boolean;
  /** Repositories whose pulls need no account, of a registry where others do. */
  readonly open?: readonly string[];
  /** Seconds that a token lives, default 60. */
  readonly expiresIn?: number;
  /** Without an account and without anonymousPull: 'refuse' answers 401 (default), 'empty' gives a token that opens nothing. */
  readonly anonymousToken?: 'refuse' | 'empty';
  /** Repositories that the account may not read: 403. */
  readonly denied?: readonly string[];
  /** Realm in the challenge, in place of this registry's own token endpoint. */
  readonly realm?: string;
  /** Field that carries the token, default both. */
  readonly tokenField?: 'token' | 'access_token';
}

/** All may be changed while the registry runs; requests that come later see the change. */
export interface RegistryOptions {
  /** False: `Range` is ignored and answered with 200. */
  ranges: boolean;
  auth: AuthInit | undefined;
  /** Blobs are redirected to another port of this registry, which refuses requests that carry Authorization. */
  redirectBlobs: 301 | 302 | 303 | 307 | 308 | undefined;
  /** Bytes a second for each source pool together; undefined: no cap. */
  bytesPerSecond: number | undefined;
  /** Source pool of a client's address. */
  poolOf: (address: string) => string;
  fault: ((request: SampleRequest) => Fault | undefined) | undefined;
}

export function defaultOptions(): RegistryOptions {
  return {
    ranges: true,
    auth: undefined,
    redirectBlobs: undefined,
    bytesPerSecond: undefined,
    poolOf: thirdOctet,
    fault: undefined,
  };
}

/** `127.0.n.x` is pool `n`; anything else is a pool of its own. */
export function thirdOctet(address: string): string {
  return /^\d+\.\d+\.(\d+)\.\d+$/.exec(address)?.[1] ?? address;
}

/** Facts that the answer's body is counted under. */
export interface BodyLabel {
  readonly pool: string;
  readonly digest: Digest | undefined;
}
