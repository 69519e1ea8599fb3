/**
 * Channels: a connection on which neighbours put questions at any time and get the answers in any order. It begins as an
 * HTTP/1.1 upgrade that names the asker; from then on heads are written as in HTTP, and the number of the ask is in each.
 */
import { TidepoolError } from '../../shared/errors.ts';
import { HEADER, PATHS } from './wire/paths.ts';

/** What the connection is upgraded to. */
export const CHANNEL = 'tidepool-channel';
/** Withdraws an ask by its number; it is answered all the same, by nothing at all. */
const WITHDRAW = 'DELETE';
/** Status of the answer to an ask that was withdrawn. */
export const WITHDRAWN = 499;
/** Largest head of an ask, bytes. */
export const MAX_ASK_HEAD_BYTES = 16 * 1024;

const END = '\r\n\r\n';
const LINE = /^(GET|POST|DELETE) (\S{1,12000}) HTTP\/1\.1$/;
const NUMBER = /^\d{1,15}$/;

/** A question, or a piece that is wanted. */
export interface ChannelAsk {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: Buffer;
}

export type AskHead =
  | {
      readonly kind: 'ask';
      readonly number: number;
      readonly method: string;
      readonly path: string;
      readonly length: number;
    }
  | { readonly kind: 'withdraw'; readonly number: number };

/** @param sender lines that name the asker, each with its end */
export function encodeOpening(host: string, sender: string): string {
  return `GET ${PATHS.channel} HTTP/1.1\r\nhost: ${host}\r\nconnection: upgrade\r\nupgrade: ${CHANNEL}\r\n${sender}\r\n`;
}

export const OPENED = `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${CHANNEL}${END}`;

export function encodeAskHead(number: number, { method, path, body }: ChannelAsk): string {
  const length = body === undefined ? '' : `content-length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\n${HEADER.ask}: ${number}\r\n${length}\r\n`;
}

export function encodeWithdrawal(number: number): string {
  return `${WITHDRAW} ${PATHS.channel} HTTP/1.1\r\n${HEADER.ask}: ${number}${END}`;
}

export function encodeAnswerHead(
  number: number,
  status: number,
  headers: Readonly<Record<string, string | number>>,
): string {
  let text = `HTTP/1.1 ${status}\r\n${HEADER.ask}: ${number}\r\n`;
  for (const name in headers) text += `${name}: ${headers[name]}\r\n`;
  return `${text}\r\n`;
}

/** The head of an ask, without its empty line. @throws TidepoolError INVALID_ARGUMENT */
export function parseAskHead(text: string): AskHead {
  const [line = '', ...fields] = text.split('\r\n');
  const [, method, path] = LINE.exec(line) ?? [];
  if (method === undefined || path === undefined) throw bad('a first line that is none');
  let number: number | undefined;
  let length = 0;
  for (const field of fields) {
    const colon = field.indexOf(':');
    const name = field.slice(0, colon).toLowerCase();
    const value = field.slice(colon + 1).trim();
    if (colon <= 0 || !NUMBER.test(value)) throw bad('a header that is none');
    if (name === HEADER.ask) number = Number(value);
    else if (name === 'content-length') length = Number(value);
    else throw bad(`a header that means nothing here: ${JSON.stringify(name.slice(0, 40))}`);
  }
  if (number === undefined) throw bad('no number');
  return method === WITHDRAW ? { kind: 'withdraw', number } : { kind: 'ask', number, method, path, length };
}

/** Of an answer's headers. @throws TidepoolError PEER_UNREACHABLE */
export function parseAskNumber(headers: Readonly<Record<string, string>>): number {
  const text = headers[HEADER.ask];
  if (text === undefined || !NUMBER.test(text))
    throw new TidepoolError('PEER_UNREACHABLE', 'the neighbour does not say which ask it answers');
  return Number(text);
}

function bad(why: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', `an ask with ${why}`);
}
