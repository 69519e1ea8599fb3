import { STATUS_CODES } from 'node:http';
import { ERROR_CODES, type TidepoolError } from '../../shared/errors.ts';

/** A whole answer at hand. Content-Length is among the headers. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: Uint8Array;
}

/**
 * The status a runtime may see. containerd retries 408 and 429 at once on the same host, up to five times, so they are
 * never sent; 499 is for logs; and a redirect would lead the client past the pool.
 */
export function safeStatus(status: number): number {
  if (status === 429 || status === 499) return 503;
  if (status === 408 || status < 200 || (status >= 300 && status < 400) || status > 599) return 502;
  return status;
}

/** The OCI answer to an error. Its message is what the user of a runtime gets to see. */
export function errorAnswer(error: TidepoolError, status: number = error.status): Answer {
  const body = Buffer.from(
    `${JSON.stringify({
      errors: [
        { code: ERROR_CODES[error.code].oci, message: oneLine(error.message), detail: detailOf(error) },
      ],
    })}\n`,
  );
  return {
    status: safeStatus(status),
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Length': body.length,
      'Docker-Distribution-API-Version': 'registry/2.0',
      ...extraHeaders(error),
    },
    body,
  };
}

/** The same answer as bytes for a socket on which no response object exists; the connection ends with it. */
export function rawErrorAnswer(error: TidepoolError, status: number): Buffer {
  const answer = errorAnswer(error, status);
  const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}\r\n${lines.join('')}Connection: close\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), answer.body]);
}

function extraHeaders(error: TidepoolError): Record<string, string> {
  switch (error.code) {
    case 'UNAUTHORIZED':
      // Never Bearer: containerd would dial the realm itself, past the pool, and fail offline.
      return { 'WWW-Authenticate': 'Basic realm="tidepool"' };
    case 'METHOD_NOT_ALLOWED':
      return { Allow: 'GET, HEAD' };
    case 'RANGE_NOT_SATISFIABLE':
      return { 'Content-Range': `bytes */${String(error.details.size)}` };
    default:
      return {};
  }
}

function detailOf(error: TidepoolError): Record<string, unknown> {
  return { ...error.details, reason: error.code };
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
