import { createHash } from 'node:crypto';
import { TidepoolError } from './errors.ts';

declare const brand: unique symbol;
type Branded<B extends string> = string & { readonly [brand]: B };

/** `sha256:` and 64 lower-case hex digits: the name of OCI content. */
export type Digest = Branded<'Digest'>;
/** What a blob is stored under: a {@link Digest}, or `file:` and 64 hex digits for a file (URL + validator). */
export type BlobKey = Branded<'BlobKey'> | Digest;
/** A node's name, as Kubernetes has it. */
export type NodeName = Branded<'NodeName'>;
/** A node pool's name. */
export type PoolName = Branded<'PoolName'>;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const BLOB_KEY = /^(?:sha256|file):[0-9a-f]{64}$/;
// A DNS subdomain as Kubernetes takes it; this also keeps `/ + #` out of MQTT topics and `..` out of paths.
const NAME = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
const NAME_MAX = 253;

/** @throws TidepoolError INVALID_DIGEST for anything but a sha256 digest in lower-case hex. */
export function parseDigest(text: string): Digest {
  if (!DIGEST.test(text)) {
    throw new TidepoolError(
      'INVALID_DIGEST',
      `not a digest: ${quote(text)}; expected sha256: and 64 hex digits`,
    );
  }
  return text as Digest;
}

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws TidepoolError INVALID_DIGEST */
export function parseBlobKey(text: string): BlobKey {
  if (!BLOB_KEY.test(text)) {
    throw new TidepoolError(
      'INVALID_DIGEST',
      `not a blob key: ${quote(text)}; expected sha256: or file: and 64 hex digits`,
    );
  }
  return text as BlobKey;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseNodeName(text: string): NodeName {
  return parseName(text, 'node') as NodeName;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parsePoolName(text: string): PoolName {
  return parseName(text, 'pool') as PoolName;
}

/** Of a node that nobody has put into a pool: it is alone in one that no NodePool is called like. */
export function lonePool(node: NodeName): PoolName {
  const name = `alone.${node}`;
  const short = createHash('sha256').update(node).digest('hex').slice(0, 16);
  return parsePoolName(name.length <= NAME_MAX ? name : `alone.${short}`);
}

function parseName(text: string, what: string): string {
  if (text.length > NAME_MAX || !NAME.test(text)) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a ${what} name: ${quote(text)}; expected lower-case letters, digits, '-' and '.', at most ${NAME_MAX} characters`,
    );
  }
  return text;
}

/** The digest of bytes at hand. */
export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** Text for an error message: quoted, cut, and with nothing that could break a terminal or a log line. */
export function quote(text: string, max = 80): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  return JSON.stringify(cut);
}
