import { lookup as systemLookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import type { Resolve } from '../../shared/net/name-lookup.ts';
import { bytesOf, isWithin, kindOfAddress, type Network, parseNetwork, unwrapped } from './address-kind.ts';

export interface DialGuardInit {
  /** Base URLs that the node's owner set: their hosts are dialled wherever they are. */
  readonly configured: readonly URL[];
  /** Networks that anything may be dialled in, public or not. */
  readonly allow: readonly string[];
  /** How names become addresses; the system's when absent. */
  readonly resolve?: Resolve | undefined;
}

export type { Resolve };

/** An address that may not be dialled. What is to be done about it depends on who sent us there. */
export class DialRefused extends Error {
  override readonly name = 'DialRefused';
  readonly code = 'ERR_DIAL_REFUSED';
  readonly host: string;

  constructor(host: string, addresses: readonly string[]) {
    const [first = ''] = addresses;
    const kind = kindOfAddress(first);
    const article = kind === 'unspecified' ? 'an' : 'a';
    const what = `${article} ${kind} address`;
    super(
      host === first
        ? `${host} is ${what}, which is dialled only where this node's settings say so (allowAddresses, or registries)`
        : `${host} is at ${first}, ${what}, which is dialled only where this node's settings say so (allowAddresses, or registries)`,
    );
    this.host = host;
  }
}

/**
 * Which addresses an origin's connections may go to. The agent sits inside the node's network, and what it asks for is
 * chosen by others: whoever names a registry, answers with a redirect or a token realm, or runs a name server could point
 * it at the cloud's metadata service, at the node itself or at a neighbour's management port. So the address that a
 * connection is made to, not the name, is checked, and no second look-up lies between the check and the connection.
 */
export class DialGuard {
  readonly #configured: readonly URL[];
  readonly #allow: readonly Network[];
  readonly #resolve: Resolve;

  /** @throws TidepoolError INVALID_ARGUMENT for a network that is none */
  constructor(init: DialGuardInit) {
    this.#configured = init.configured;
    this.#allow = init.allow.map(parseNetwork);
    this.#resolve = init.resolve ?? systemLookup;
  }

  /**
   * True where the node's owner named the host: it is dialled wherever it is. On this node itself just the very port, as
   * every other service that trusts its own host listens there.
   */
  trusts(url: URL): boolean {
    return this.#configured.some(
      (known) =>
        known.hostname === url.hostname && (known.host === url.host || !isLoopbackName(url.hostname)),
    );
  }

  /** A literal address is never looked up, so it is checked before the connection. @throws DialRefused */
  checkLiteral(url: URL): void {
    const host = bare(url.hostname);
    if (isIP(host) === 0 || this.trusts(url) || this.#permits(host)) return;
    throw new DialRefused(host, [host]);
  }

  /** For a connection to this URL: gives only addresses that may be dialled, which are all where the host is trusted. */
  lookupFor(url: URL): LookupFunction {
    return this.trusts(url) ? this.plain : this.lookup;
  }

  /** For a host that the node's owner named. */
  readonly plain: LookupFunction = (host, options, done) => {
    this.#resolve(host, { ...options, all: true }, (error, found) => {
      const [first] = found ?? [];
      if (error !== null || first === undefined) done(error, '', 0);
      else if (options.all === true) done(null, [...found]);
      else done(null, first.address, first.family);
    });
  };

  /** For a host that nobody configured. */
  readonly lookup: LookupFunction = (host, options, done) => {
    this.#resolve(host, { ...options, all: true }, (error, found) => {
      if (error !== null) return done(error, '', 0);
      const allowed = found.filter(({ address }) => this.#permits(address));
      const [first] = allowed;
      if (first === undefined) {
        const refused = new DialRefused(
          host,
          found.map(({ address }) => address),
        );
        return done(refused, '', 0);
      }
      if (options.all === true) done(null, [...allowed]);
      else done(null, first.address, first.family);
    });
  };

  #permits(address: string): boolean {
    if (kindOfAddress(address) === 'public') return true;
    const bytes = bytesOf(address);
    if (bytes === undefined) return false;
    const plain = unwrapped(bytes);
    return this.#allow.some((network) => isWithin(bytes, network) || isWithin(plain, network));
  }
}

function isLoopbackName(hostname: string): boolean {
  return hostname === 'localhost' || kindOfAddress(bare(hostname)) === 'loopback';
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '');
}
