import type { IncomingHttpHeaders } from 'node:http';

/** Largest head of an answer that is taken, bytes. */
export const MAX_HEAD_BYTES = 32 * 1024;

export interface AnswerHead {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the body. */
  readonly length: number;
  /** The connection may carry another request after the body. */
  readonly keep: boolean;
}

/** The answer's body has no length at its head (chunks, or up to the connection's end): this lane does not read such. */
export class UnsizedAnswer extends Error {
  override readonly name = 'UnsizedAnswer';
}

const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: |$)/;
/** RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const LENGTH = /^\d{1,15}$/;

/**
 * The head of an answer to a GET, up to and without its empty line; undefined for an interim one (1xx). Strict: what two
 * readers could take for two things is refused.
 * @throws UnsizedAnswer, or an Error that says what is wrong
 */
export function parseAnswerHead(text: string): AnswerHead | undefined {
  const [line = '', ...fields] = text.split('\r\n');
  const [, minor, code] = STATUS_LINE.exec(line) ?? [];
  if (minor === undefined || code === undefined) throw new Error('the answer is no HTTP/1.1');
  const status = Number(code);
  if (status === 101) throw new Error('the answer changes the protocol, which nobody asked for');
  if (status < 200) return undefined;
  const headers: Record<string, string | string[]> = {};
  for (const field of fields) {
    const colon = field.indexOf(':');
    const name = field.slice(0, Math.max(0, colon)).toLowerCase();
    if (!TOKEN.test(name)) throw new Error('the answer has a header without a proper name');
    const value = field.slice(colon + 1).trim();
    const before = headers[name];
    headers[name] = before === undefined ? value : [before, value].flat();
  }
  const connection = [headers.connection ?? ''].flat().join(',').toLowerCase();
  const keep = minor === '1' ? !connection.includes('close') : connection.includes('keep-alive');
  return { status, headers, length: lengthOf(status, headers), keep };
}

function lengthOf(status: number, headers: Readonly<Record<string, string | string[]>>): number {
  if (status === 204 || status === 304) return 0;
  if (headers['transfer-encoding'] !== undefined) throw new UnsizedAnswer('the answer comes in chunks');
  const lengths = new Set([headers['content-length'] ?? []].flat());
  if (lengths.size > 1) throw new Error('the answer has several lengths');
  const [length] = lengths;
  if (length === undefined) throw new UnsizedAnswer('the answer does not say how long it is');
  if (!LENGTH.test(length)) throw new Error('the answer has a length that is no number');
  return Number(length);
}
