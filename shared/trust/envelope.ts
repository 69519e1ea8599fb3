/**
 * What the hub says over MQTT, signed: a broker, or who speaks through it, can withhold a message and cannot make one.
 * On the wire a line of JSON `{"by": certificate, "sig": signature}`, then the body's bytes as they were signed. The
 * topic is signed too, so that what one pool was told cannot be told to another.
 */
import { createPrivateKey, sign, verify, X509Certificate } from 'node:crypto';
import { TidepoolError } from '../errors.ts';
import { MAX_CERTIFICATE_BYTES, refused } from './certificate.ts';
import type { Principal } from './types.ts';

const NEWLINE = 0x0a;
const ECDSA = 'ieee-p1363';
/** Room that the first line takes at most; ours takes about 1 KiB. */
export const MAX_ENVELOPE_BYTES = 2 * MAX_CERTIFICATE_BYTES;

export interface Signer {
  /** PEM. */
  readonly key: string;
  /** PEM; the first certificate is the signer's. */
  readonly cert: string;
}

export function signMessage(topic: string, body: Uint8Array, { key, cert }: Signer): Buffer {
  const sig = sign('sha256', signedBytes(topic, body), { key: createPrivateKey(key), dsaEncoding: ECDSA });
  const by = new X509Certificate(cert).raw.toString('base64');
  return Buffer.concat([Buffer.from(`${JSON.stringify({ by, sig: sig.toString('base64') })}\n`), body]);
}

/**
 * The body of a message that the hub has signed for this topic.
 * @param judge says whose certificate it is, as {@link TlsIdentity.judge}
 * @throws TidepoolError CERTIFICATE_REFUSED (not the hub, or not one that is trusted), SIGNATURE_WRONG
 */
export function openMessage(
  topic: string,
  payload: Uint8Array,
  judge: (certificate: Uint8Array) => Principal,
): Uint8Array {
  const end = payload.subarray(0, MAX_ENVELOPE_BYTES).indexOf(NEWLINE);
  const { by, sig } = readHead(end < 0 ? new Uint8Array() : payload.subarray(0, end));
  const certificate = Buffer.from(by, 'base64');
  const principal = judge(certificate);
  if (principal.kind !== 'hub')
    throw refused(`it is ${principal.node}'s, and only the hub signs what pools are told`);
  const body = payload.subarray(end + 1);
  const { publicKey } = new X509Certificate(certificate);
  const signature = Buffer.from(sig, 'base64');
  if (!verify('sha256', signedBytes(topic, body), { key: publicKey, dsaEncoding: ECDSA }, signature)) {
    throw wrong(`the signature does not fit what is said on ${topic}`);
  }
  return body;
}

function signedBytes(topic: string, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`tidepool message\n${topic}\n`), body]);
}

function readHead(line: Uint8Array): { readonly by: string; readonly sig: string } {
  let head: unknown;
  try {
    head = JSON.parse(Buffer.from(line).toString('utf8'));
  } catch {
    throw wrong('it is not signed');
  }
  if (typeof head === 'object' && head !== null && 'by' in head && 'sig' in head) {
    const { by, sig } = head;
    if (typeof by === 'string' && typeof sig === 'string') return { by, sig };
  }
  throw wrong('it is not signed');
}

function wrong(why: string): TidepoolError {
  return new TidepoolError('SIGNATURE_WRONG', `a message is refused: ${why}`);
}
