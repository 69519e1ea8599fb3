import { type ErrorCode, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { MAX_ERROR_BODY_BYTES } from './constants.ts';
import type { Exchange } from './exchange.ts';
import type { Credentials } from './types.ts';

/** The first value of a header. */
export function headerOf(answer: Pick<Exchange, 'headers'>, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** All values of a header; servers send several challenges either way. */
export function headersOf(answer: Pick<Exchange, 'headers'>, name: string): readonly string[] {
  const value = answer.headers[name];
  return value === undefined || typeof value === 'string' ? [value ?? ''] : value;
}

export function basicHeader(credentials: Credentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
}

export function refusedAs(where: string, credentials: Credentials | undefined): TidepoolError {
  return new TidepoolError(
    'UNAUTHORIZED',
    credentials === undefined
      ? `${where} asks for an account, and none was given`
      : `${where} does not take this account or its password`,
  );
}

/**
 * The error that a refusal means, with the registry's own words where it sent any. Reads the body.
 * @param unknown the code of a 404 that does not say what is unknown
 * @param elsewhere another host than the registry answered: it says nothing of what the registry has and who may read it
 */
export async function answerError(
  answer: Exchange,
  where: string,
  unknown: ErrorCode,
  elsewhere = false,
): Promise<TidepoolError> {
  const said = await errorText(answer);
  const { status } = answer;
  const tail = said === undefined ? '' : `: ${quote(said.message, 200)}`;
  const details = { status, host: answer.url.host };
  if (elsewhere) {
    return new TidepoolError('ORIGIN_ERROR', `${where}: ${answer.url.host} answered ${status}${tail}`, {
      details: { ...details, retryable: true },
    });
  }
  if (status === 401)
    return new TidepoolError('UNAUTHORIZED', `${where} refused this account${tail}`, { details });
  if (status === 403) return new TidepoolError('DENIED', `${where} denies access${tail}`, { details });
  if (status === 404) {
    const code: ErrorCode = said?.code === 'NAME_UNKNOWN' ? 'NAME_UNKNOWN' : unknown;
    return new TidepoolError(code, `${where} does not have it${tail}`, { details });
  }
  const retryAfter = headerOf(answer, 'retry-after');
  const later = retryAfter === undefined ? '' : ` (Retry-After: ${quote(retryAfter)})`;
  return new TidepoolError('ORIGIN_ERROR', `${where} answered ${status}${later}${tail}`, {
    details: { ...details, retryable: status === 429 || status >= 500 },
  });
}

/** Code and message of an OCI error body. What is no such body says nothing: the status stands for itself. */
async function errorText(answer: Exchange): Promise<{ code: string; message: string } | undefined> {
  try {
    const body = await answer.body.readAll(MAX_ERROR_BODY_BYTES);
    if (body === undefined || body.length === 0) return undefined;
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    const errors: unknown = isObject(parsed) ? parsed.errors : undefined;
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    if (!isObject(first)) return undefined;
    const { code, message } = first;
    return {
      code: typeof code === 'string' ? code : '',
      message: typeof message === 'string' ? message : String(code),
    };
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
