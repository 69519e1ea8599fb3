import { isIP } from 'node:net';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';

/** What an address is good for; `public` alone is one that strangers may send us to. */
export type AddressKind =
  | 'public'
  | 'private'
  | 'loopback'
  | 'link-local'
  | 'multicast'
  | 'unspecified'
  | 'reserved';

/** A network: the leading `bits` of `bytes`. */
export interface Network {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

const V4_BYTES = 4;
const V6_BYTES = 16;

/** The four or sixteen bytes of a literal address; undefined for what is none. An IPv6 zone counts for nothing. */
export function bytesOf(address: string): Uint8Array | undefined {
  const [bare = ''] = address.split('%', 1);
  const family = isIP(bare);
  if (family === 4) return Uint8Array.from(bare.split('.').map(Number));
  if (family !== 6) return undefined;
  // The URL parser writes every spelling in one form, dotted quads at the end included.
  const text = new URL(`http://[${bare}]/`).hostname.slice(1, -1);
  const [head = '', tail] = text.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  const bytes = new Uint8Array(V6_BYTES);
  for (const [index, group] of [...before, ...zeros, ...after].entries()) {
    bytes[index * 2] = group >> 8;
    bytes[index * 2 + 1] = group & 0xff;
  }
  return bytes;
}

/** `10.0.0.0/8`, `fd00::/8`, or one address. @throws TidepoolError INVALID_ARGUMENT */
export function parseNetwork(text: string): Network {
  const [address = '', digits, ...more] = text.split('/');
  const bytes = bytesOf(address);
  const bits =
    digits === undefined ? (bytes?.length ?? 0) * 8 : /^\d{1,3}$/.test(digits) ? Number(digits) : -1;
  if (bytes === undefined || more.length > 0 || bits < 0 || bits > bytes.length * 8) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a network: ${quote(text)}; write it like 10.0.0.0/8, fd00::/8 or 10.1.2.3`,
    );
  }
  return { bytes, bits };
}

export function isWithin(address: Uint8Array, { bytes, bits }: Network): boolean {
  if (address.length !== bytes.length) return false;
  for (let index = 0, left = bits; left > 0; index++, left -= 8) {
    const mask = left >= 8 ? 0xff : (0xff << (8 - left)) & 0xff;
    if (((address[index] ?? 0) & mask) !== ((bytes[index] ?? 0) & mask)) return false;
  }
  return true;
}

type Rule = readonly [network: Network, kind: AddressKind];
const rule = (text: string, kind: AddressKind): Rule => [parseNetwork(text), kind];

/** IANA's special-purpose registry, as far as it is not reached by everybody; the first that fits counts. */
const V4: readonly Rule[] = [
  rule('0.0.0.0/8', 'unspecified'),
  rule('10.0.0.0/8', 'private'),
  rule('100.64.0.0/10', 'private'),
  rule('127.0.0.0/8', 'loopback'),
  rule('169.254.0.0/16', 'link-local'),
  rule('172.16.0.0/12', 'private'),
  rule('192.0.0.0/24', 'reserved'),
  rule('192.0.2.0/24', 'reserved'),
  rule('192.168.0.0/16', 'private'),
  rule('198.18.0.0/15', 'reserved'),
  rule('198.51.100.0/24', 'reserved'),
  rule('203.0.113.0/24', 'reserved'),
  rule('224.0.0.0/4', 'multicast'),
  rule('240.0.0.0/4', 'reserved'),
];

const V6: readonly Rule[] = [
  rule('::/128', 'unspecified'),
  rule('::1/128', 'loopback'),
  rule('fc00::/7', 'private'),
  rule('fec0::/10', 'private'),
  rule('fe80::/10', 'link-local'),
  rule('ff00::/8', 'multicast'),
  rule('2001::/23', 'reserved'),
  rule('2001:db8::/32', 'reserved'),
  rule('3fff::/20', 'reserved'),
  rule('2000::/3', 'public'),
];

/** Where an IPv6 address is another spelling of an IPv4 one, and at which byte that stands. */
const EMBEDDED: readonly (readonly [network: Network, offset: number])[] = [
  [parseNetwork('::ffff:0:0/96'), 12],
  [parseNetwork('64:ff9b::/96'), 12],
  [parseNetwork('2002::/16'), 2],
];

/**
 * Of a literal address; what is none counts as reserved. An IPv4 address in another spelling (mapped, NAT64, 6to4) is what
 * it is in its own.
 */
export function kindOfAddress(address: string): AddressKind {
  const bytes = bytesOf(address);
  return bytes === undefined ? 'reserved' : kindOf(bytes);
}

/** The IPv4 address that an IPv6 one leads to; else the address itself. */
export function unwrapped(bytes: Uint8Array): Uint8Array {
  if (bytes.length === V4_BYTES) return bytes;
  const found = EMBEDDED.find(([network]) => isWithin(bytes, network));
  return found === undefined ? bytes : bytes.subarray(found[1], found[1] + V4_BYTES);
}

function kindOf(bytes: Uint8Array): AddressKind {
  const plain = unwrapped(bytes);
  const rules = plain.length === V4_BYTES ? V4 : V6;
  const found = rules.find(([network]) => isWithin(plain, network));
  return found?.[1] ?? (plain.length === V4_BYTES ? 'public' : 'reserved');
}
