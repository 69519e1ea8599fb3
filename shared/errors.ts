/**
 * Every error that crosses a room carries a code from this table. Callers switch on the code, never on the text.
 * `status` is the HTTP status an API answers with. 408 and 429 are absent on purpose: containerd retries them at once
 * on the same host, up to five times.
 */
export const ERROR_CODES = {
  // what the caller sent
  INVALID_ARGUMENT: { status: 400, oci: 'UNSUPPORTED' },
  INVALID_REFERENCE: { status: 400, oci: 'NAME_INVALID' },
  INVALID_DIGEST: { status: 400, oci: 'DIGEST_INVALID' },
  INVALID_CONFIG: { status: 400, oci: 'UNSUPPORTED' },
  RANGE_NOT_SATISFIABLE: { status: 416, oci: 'BLOB_UNKNOWN' },
  METHOD_NOT_ALLOWED: { status: 405, oci: 'UNSUPPORTED' },
  NOT_FOUND: { status: 404, oci: 'NAME_UNKNOWN' },
  CONFLICT: { status: 409, oci: 'UNSUPPORTED' },
  BUNDLE_REFUSED: { status: 422, oci: 'UNSUPPORTED' },
  // what the origin said
  UNAUTHORIZED: { status: 401, oci: 'UNAUTHORIZED' },
  DENIED: { status: 403, oci: 'DENIED' },
  NAME_UNKNOWN: { status: 404, oci: 'NAME_UNKNOWN' },
  MANIFEST_UNKNOWN: { status: 404, oci: 'MANIFEST_UNKNOWN' },
  BLOB_UNKNOWN: { status: 404, oci: 'BLOB_UNKNOWN' },
  REGISTRY_NOT_CONFIGURED: { status: 403, oci: 'DENIED' },
  ORIGIN_UNREACHABLE: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_ERROR: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_LIED: { status: 502, oci: 'DIGEST_INVALID' },
  // what the pool or this node could not do
  POOL_MISMATCH: { status: 403, oci: 'DENIED' },
  NOT_A_MEMBER: { status: 403, oci: 'DENIED' },
  PIECE_NOT_HELD: { status: 404, oci: 'BLOB_UNKNOWN' },
  PIECE_REFUSED: { status: 409, oci: 'UNAVAILABLE' },
  PIECE_CORRUPT: { status: 502, oci: 'DIGEST_INVALID' },
  PEER_UNREACHABLE: { status: 502, oci: 'UNAVAILABLE' },
  PEER_STALLED: { status: 504, oci: 'UNAVAILABLE' },
  DIGEST_MISMATCH: { status: 502, oci: 'DIGEST_INVALID' },
  SIZE_MISMATCH: { status: 502, oci: 'SIZE_INVALID' },
  STORE_FULL: { status: 507, oci: 'UNAVAILABLE' },
  STORE_CORRUPT: { status: 500, oci: 'UNAVAILABLE' },
  OVERLOADED: { status: 503, oci: 'UNAVAILABLE' },
  TIMEOUT: { status: 504, oci: 'UNAVAILABLE' },
  ABORTED: { status: 499, oci: 'UNAVAILABLE' },
  // who the other end is
  CERTIFICATE_REFUSED: { status: 403, oci: 'DENIED' },
  SIGNATURE_WRONG: { status: 403, oci: 'DENIED' },
  TOKEN_REFUSED: { status: 403, oci: 'DENIED' },
  NOT_ENROLLED: { status: 403, oci: 'DENIED' },
  // what this node's container runtime does
  RUNTIME_NOT_CONFIGURED: { status: 409, oci: 'UNAVAILABLE' },
  RUNTIME_ERROR: { status: 502, oci: 'UNAVAILABLE' },
  HUB_UNREACHABLE: { status: 502, oci: 'UNAVAILABLE' },
  // what the Kubernetes API said to the hub
  KUBE_UNREACHABLE: { status: 502, oci: 'UNAVAILABLE' },
  KUBE_ERROR: { status: 502, oci: 'UNAVAILABLE' },
  INTERNAL: { status: 500, oci: 'UNAVAILABLE' },
} as const satisfies Record<string, { status: number; oci: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An error with a stable code. `details` are facts for a person or a log line, never secrets. */
export class TidepoolError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    message: string,
    init: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, init.cause === undefined ? {} : { cause: init.cause });
    this.name = 'TidepoolError';
    this.code = code;
    this.details = init.details ?? {};
  }

  /** The HTTP status that an API answers this error with. */
  get status(): number {
    return ERROR_CODES[this.code].status;
  }
}

/** True when `error` is a TidepoolError, of `code` when one is given. */
export function isTidepoolError(error: unknown, code?: ErrorCode): error is TidepoolError {
  return error instanceof TidepoolError && (code === undefined || error.code === code);
}

/** Gives any thrown value a code; a TidepoolError stays as it is, an abort becomes ABORTED. */
export function toTidepoolError(error: unknown, fallback: ErrorCode = 'INTERNAL'): TidepoolError {
  if (error instanceof TidepoolError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    return new TidepoolError('ABORTED', error.message, { cause: error });
  }
  return new TidepoolError(fallback, describeError(error), { cause: error });
}

/** One line for a log or a person: the message, and the system's code (ECONNREFUSED …) where it adds something. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const text = error.message === '' ? (code ?? error.name) : error.message;
  return code !== undefined && !(error instanceof TidepoolError) && !text.includes(code)
    ? `${text} (${code})`
    : text;
}
