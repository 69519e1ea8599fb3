/**
 * One datagram: `TPB1`, the certificate's length (16 bits), the certificate (DER), a signature (64 bytes), and the body as
 * it was signed: JSON `{"address", "boot", "seq"}`. Node and pool stand in the certificate, and nowhere else.
 */
import { type KeyObject, sign, verify } from 'node:crypto';
import { TidepoolError } from '../../shared/errors.ts';
import { parseAddress } from './wire/members.ts';

/** Fits an Ethernet frame with room for tunnels, so that no part of one gets lost alone. */
export const MAX_BEACON_BYTES = 1_200;

const MAGIC = Buffer.from('TPB1');
const HEAD_BYTES = MAGIC.length + 2;
const SIGNATURE_BYTES = 64;
const CONTEXT = Buffer.from('tidepool beacon\n');
const ECDSA = 'ieee-p1363';

export interface BeaconBody {
  /** Where the node serves its neighbours, `host:port`. */
  readonly address: string;
  /** Grows with each start of the node; `seq` counts from 1 within it. */
  readonly boot: number;
  readonly seq: number;
}

export interface Beacon extends BeaconBody {
  readonly certificate: Uint8Array;
  readonly signature: Uint8Array;
  /** As they were signed. */
  readonly signed: Uint8Array;
}

/** @throws TidepoolError INVALID_ARGUMENT when it does not fit, which names of 200 characters do not */
export function encodeBeacon(body: BeaconBody, certificate: Uint8Array, key: KeyObject): Buffer {
  const { address, boot, seq } = body;
  const bytes = Buffer.from(JSON.stringify({ address, boot, seq }));
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt16BE(certificate.length, MAGIC.length);
  const signature = sign('sha256', Buffer.concat([CONTEXT, bytes]), { key, dsaEncoding: ECDSA });
  const beacon = Buffer.concat([head, certificate, signature, bytes]);
  if (beacon.length <= MAX_BEACON_BYTES) return beacon;
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `a beacon of this node takes ${beacon.length} bytes and has at most ${MAX_BEACON_BYTES}; a shorter name of node or pool fits`,
  );
}

/** Reads one without believing it. @throws TidepoolError INVALID_ARGUMENT */
export function decodeBeacon(bytes: Buffer): Beacon {
  if (bytes.length > MAX_BEACON_BYTES) throw bad('too large');
  if (bytes.length < HEAD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw bad('none of ours');
  const bodyAt = HEAD_BYTES + bytes.readUInt16BE(MAGIC.length) + SIGNATURE_BYTES;
  if (bodyAt >= bytes.length) throw bad('cut off');
  const signed = bytes.subarray(bodyAt);
  return {
    ...readBody(signed),
    certificate: bytes.subarray(HEAD_BYTES, bodyAt - SIGNATURE_BYTES),
    signature: bytes.subarray(bodyAt - SIGNATURE_BYTES, bodyAt),
    signed,
  };
}

export function isSignedBy({ signed, signature }: Beacon, key: KeyObject): boolean {
  return verify('sha256', Buffer.concat([CONTEXT, signed]), { key, dsaEncoding: ECDSA }, signature);
}

function readBody(bytes: Uint8Array): BeaconBody {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'a beacon whose body is no JSON', { cause: error });
  }
  if (typeof json !== 'object' || json === null) throw bad('its body is no object');
  const { address, boot, seq } = { address: undefined, boot: undefined, seq: undefined, ...json };
  return { address: parseAddress(address), boot: count(boot), seq: count(seq) };
}

function count(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw bad('it counts by no whole number');
}

function bad(why: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', `a beacon that cannot be read: ${why}`);
}
