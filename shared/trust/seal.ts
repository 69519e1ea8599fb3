/**
 * Something for one reader only: an ephemeral ECDH key against the reader's, HKDF-SHA256 over both public keys and the
 * context, AES-256-GCM. Who knows the reader's certificate key learns nothing by that: this key is another one.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { TidepoolError } from '../errors.ts';

const CURVE = 'prime256v1';
const CIPHER = 'aes-256-gcm';
const VERSION = 1;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** SubjectPublicKeyInfo of a P-256 key with its point uncompressed, as OpenSSL writes it. */
const SPKI_BYTES = 91;
const HEAD_BYTES = 1 + SPKI_BYTES;
const MAX_SEALED_BYTES = 256 * 1024;
const MAX_KEY_CHARS = 200;
const LABEL = 'tidepool seal v1';

export interface SealKey {
  /** PEM. */
  readonly privateKey: string;
  /** Base64 of the SubjectPublicKeyInfo: what others seal for. */
  readonly publicKey: string;
}

export function makeSealKey(): SealKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: CURVE });
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKey: spkiOf(publicKey).toString('base64'),
  };
}

/**
 * Sealed bytes as base64.
 * @param recipient base64 of the reader's public key, as {@link makeSealKey} gives it
 * @param context what it is for, and whose: it opens under the same context only
 * @throws TidepoolError INVALID_ARGUMENT for a key that is none of P-256
 */
export function seal(content: Uint8Array, recipient: string, context: string): string {
  const reader = readPublicKey(recipient);
  // A key and with it a nonce that serves once.
  const ephemeral = generateKeyPairSync('ec', { namedCurve: CURVE });
  const sender = spkiOf(ephemeral.publicKey);
  const secret = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: reader });
  const { key, nonce, head } = derive(secret, sender, spkiOf(reader), context);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.concat([head, Buffer.from(context)]));
  const text = Buffer.concat([cipher.update(content), cipher.final()]);
  return Buffer.concat([head, text, cipher.getAuthTag()]).toString('base64');
}

/**
 * @param privateKey PEM
 * @throws TidepoolError SIGNATURE_WRONG for what was not sealed for this key and context, or was changed since
 */
export function openSealed(sealed: string, privateKey: string, context: string): Buffer {
  const bytes = sealed.length > 2 * MAX_SEALED_BYTES ? Buffer.alloc(0) : Buffer.from(sealed, 'base64');
  if (bytes.length < HEAD_BYTES + TAG_BYTES || bytes.length > MAX_SEALED_BYTES || bytes[0] !== VERSION) {
    throw wrong();
  }
  try {
    const own = createPrivateKey(privateKey);
    const sender = bytes.subarray(1, HEAD_BYTES);
    const secret = diffieHellman({ privateKey: own, publicKey: readPublicKey(sender.toString('base64')) });
    const { key, nonce, head } = derive(secret, sender, spkiOf(createPublicKey(own)), context);
    const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.concat([head, Buffer.from(context)]));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch (error) {
    // One answer for all of it: which check failed helps only whoever tries.
    throw wrong(error);
  }
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseSealKey(text: string): string {
  readPublicKey(text);
  return text;
}

function derive(
  secret: Buffer,
  sender: Buffer,
  reader: Buffer,
  context: string,
): { readonly key: Buffer; readonly nonce: Buffer; readonly head: Buffer } {
  const info = Buffer.concat([Buffer.from(`${LABEL}\n`), sender, reader, Buffer.from(context)]);
  const made = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), info, KEY_BYTES + NONCE_BYTES));
  return {
    key: made.subarray(0, KEY_BYTES),
    nonce: made.subarray(KEY_BYTES),
    head: Buffer.concat([Buffer.from([VERSION]), sender]),
  };
}

function readPublicKey(text: string): KeyObject {
  const bytes = text.length > MAX_KEY_CHARS ? Buffer.alloc(0) : Buffer.from(text, 'base64');
  let key: KeyObject | undefined;
  try {
    key = createPublicKey({ key: bytes, format: 'der', type: 'spki' });
  } catch {
    key = undefined;
  }
  if (
    key === undefined ||
    bytes.length !== SPKI_BYTES ||
    key.asymmetricKeyType !== 'ec' ||
    key.asymmetricKeyDetails?.namedCurve !== CURVE
  ) {
    throw new TidepoolError('INVALID_ARGUMENT', 'not a key to seal for: expected one of P-256, as base64');
  }
  return key;
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

function wrong(cause?: unknown): TidepoolError {
  return new TidepoolError(
    'SIGNATURE_WRONG',
    'what is sealed does not open: it is not for this key and use',
    {
      cause,
    },
  );
}
