import { isIP, isIPv6 } from 'node:net';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { HostPort } from '../settings.ts';

/** What `os.networkInterfaces` answers, as far as it is used here. */
export type Interfaces = Readonly<
  Record<string, readonly { address: string; family: string; internal: boolean }[] | undefined>
>;

const MAX_PORT = 65_535;

/**
 * `10.0.0.7:6181` or `[fd00::7]:6181`. Literal addresses only: a node whose uplink is gone can ask no name server.
 * @throws TidepoolError INVALID_ARGUMENT
 */
export function parseHostPort(text: string): HostPort {
  const bad = (why: string): TidepoolError =>
    new TidepoolError(
      'INVALID_ARGUMENT',
      `not an address and port: ${quote(text)}; ${why}, like 10.0.0.7:6181 or [fd00::7]:6181`,
    );
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text.trim());
  if (match === null) throw bad(isIPv6(text) ? 'an IPv6 address stands in brackets' : 'write both');
  const [, bracketed, plain, digits] = match;
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  if (port > MAX_PORT) throw bad(`a port is at most ${MAX_PORT}`);
  if (bracketed !== undefined ? !isIPv6(host) : isIP(host) !== 4)
    throw bad('the host is a literal IP address');
  return { host, port };
}

/** An IPv4 group of one site, `239.0.0.0/8`, and a port. @throws TidepoolError INVALID_ARGUMENT */
export function parseMulticast(text: string): HostPort {
  const group = parseHostPort(text);
  if (/^239\./.test(group.host)) return group;
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `not a group of a site: ${quote(text)}; write it like 239.255.61.81:6184`,
  );
}

export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

export function formatHostPort({ host, port }: HostPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseAddress(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (isIP(bare) === 0) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not an address: ${quote(text)}; neighbours reach a node at a literal IP address, without a port`,
    );
  }
  if (bare === '0.0.0.0' || /^[0:]+$/.test(bare)) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `${quote(text)} is no address that neighbours can reach; give the one of this node on the LAN`,
    );
  }
  return bare;
}

/** `10.0.0.0/8`, `fd00::/8`, or one address. @throws TidepoolError INVALID_ARGUMENT */
export function checkNetwork(text: string): string {
  const [, address = '', bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  if (family !== 0 && Number(bits ?? 0) <= (family === 4 ? 32 : 128)) return text;
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `not a network: ${quote(text)}; write it like 10.0.0.0/8, fd00::/8 or 10.1.2.3`,
  );
}

/**
 * The one IPv4 address that neighbours can reach this node at.
 * @throws TidepoolError INVALID_CONFIG when there is none, or a choice
 */
export function onlyAddress(interfaces: Interfaces): string {
  const found = Object.entries(interfaces).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter(({ family, internal, address }) => family === 'IPv4' && !internal && !isLinkLocal(address))
      .map(({ address }) => ({ name, address })),
  );
  const [one] = found;
  if (one !== undefined && found.length === 1) return one.address;
  const list = found.map(({ name, address }) => `${address} (${name})`).join(', ');
  throw new TidepoolError(
    'INVALID_CONFIG',
    one === undefined
      ? 'this node has no IPv4 address besides loopback; say with --address where neighbours reach it'
      : `this node has several addresses: ${list}; say with --address which one neighbours reach it at`,
  );
}

function isLinkLocal(address: string): boolean {
  return address.startsWith('169.254.');
}
