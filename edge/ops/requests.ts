import type { IncomingMessage } from 'node:http';
import { TidepoolError } from '../../shared/errors.ts';
import type { Credentials } from '../origin/types.ts';
import { MAX_BODY_BYTES } from './constants.ts';

/**
 * What reads with accounts, or fills the disk, is for this host alone, even where health and metrics are open to others.
 * @throws TidepoolError DENIED
 */
export function requireLocal(request: IncomingMessage): void {
  const { localAddress, remoteAddress } = request.socket;
  if (remoteAddress !== undefined && (isLoopback(remoteAddress) || remoteAddress === localAddress)) return;
  throw new TidepoolError('DENIED', 'this is answered to the host itself alone; run the command there');
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}

/** @throws TidepoolError INVALID_ARGUMENT */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  // A page in a browser cannot send this type without asking first, and is refused then.
  const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new TidepoolError('INVALID_ARGUMENT', 'the body must be application/json');
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request) {
    if (!(chunk instanceof Uint8Array)) continue;
    length += chunk.length;
    if (length > MAX_BODY_BYTES) {
      throw new TidepoolError('INVALID_ARGUMENT', `the body has more than ${MAX_BODY_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'the body is not JSON', { cause: error });
  }
}

/** Of `Authorization: Basic`; undefined without one. @throws TidepoolError INVALID_ARGUMENT */
export function readAccount(request: IncomingMessage): Credentials | undefined {
  const header = request.headers.authorization;
  if (header === undefined) return undefined;
  const encoded = /^basic\s+([A-Za-z0-9+/=]+)$/i.exec(header)?.[1];
  const text = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) throw new TidepoolError('INVALID_ARGUMENT', 'Authorization must be Basic user:password');
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}
