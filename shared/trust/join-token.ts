import { TidepoolError } from '../errors.ts';
import { parseKeyId } from './certificate.ts';
import type { KeyId } from './types.ts';

/** What lets a node in, as a person copies it: `tp1.<id>.<secret>.<key id of the hub's authority>`. */
export interface JoinToken {
  /** Names it in lists and logs. */
  readonly id: string;
  /** Known to its holder; the hub keeps a hash. */
  readonly secret: string;
  /** The hub that a node gives the secret to must show a certificate of this authority. */
  readonly authority: KeyId;
}

const VERSION = 'tp1';
const ID = /^[a-z0-9]{8}$/;
const SECRET = /^[A-Za-z0-9_-]{32}$/;

export function formatJoinToken({ id, secret, authority }: JoinToken): string {
  return [VERSION, id, secret, authority].join('.');
}

/** @throws TidepoolError INVALID_ARGUMENT; the text itself is never repeated */
export function parseJoinToken(text: string): JoinToken {
  const [version, id, secret, authority, ...more] = text.trim().split('.');
  if (
    version !== VERSION ||
    id === undefined ||
    secret === undefined ||
    authority === undefined ||
    more.length > 0 ||
    !ID.test(id) ||
    !SECRET.test(secret)
  ) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      'not a join token: expected what `tidepool-hub token create` printed, tp1 and three more parts with dots between',
    );
  }
  return { id, secret, authority: parseKeyId(authority) };
}
