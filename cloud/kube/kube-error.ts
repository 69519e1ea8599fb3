import { type ErrorCode, TidepoolError } from '../../shared/errors.ts';

/** An answer of the API server that is none we wanted, or none at all. */
export class KubeError extends TidepoolError {
  /** As answered; 0 without an answer. */
  readonly httpStatus: number;
  /** The server's word for it, as in `Expired`; may be empty. */
  readonly reason: string;
  /** The server wants to be left alone for so long. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    init: { httpStatus: number; reason?: string; retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(codeOf(init.httpStatus), message, init.cause === undefined ? {} : { cause: init.cause });
    this.name = 'KubeError';
    this.httpStatus = init.httpStatus;
    this.reason = init.reason ?? '';
    this.retryAfterMs = init.retryAfterMs;
  }
}

/** True for a KubeError, of these statuses when some are given. */
export function isKubeError(error: unknown, ...statuses: readonly number[]): error is KubeError {
  return error instanceof KubeError && (statuses.length === 0 || statuses.includes(error.httpStatus));
}

function codeOf(status: number): ErrorCode {
  switch (status) {
    case 0:
      return 'KUBE_UNREACHABLE';
    case 401:
      return 'UNAUTHORIZED';
    case 403:
      return 'DENIED';
    case 404:
      return 'NOT_FOUND';
    case 409:
      return 'CONFLICT';
    case 429:
      return 'OVERLOADED';
    default:
      return 'KUBE_ERROR';
  }
}
