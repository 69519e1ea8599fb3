import { readFileSync } from 'node:fs';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { isRegistryHost } from '../../shared/image-ref.ts';
import type { RegistrySettings } from '../settings.ts';

export interface Target {
  readonly base: URL;
  readonly ca: string | undefined;
  readonly configured: boolean;
  /** Hosts of token services that may be given this registry's accounts, besides those that are its own. */
  readonly realms?: readonly string[] | undefined;
  /** Any certificate will do. */
  readonly skipVerify?: boolean | undefined;
}

/** docker.io is a name that only runtimes know; its registry lives elsewhere. */
const DOCKER_HUB = 'https://registry-1.docker.io';

/**
 * Which URL a registry's name stands for. A name is a key to look up; it is dialled itself only where `openRegistries` says so.
 * Reads the authorities' files once.
 */
export class RegistryMap {
  readonly #configured = new Map<string, Target>();
  readonly #open: boolean;
  /** Targets that the hub chose, by key. */
  #chosen: ReadonlyMap<string, Target> = new Map();

  /** @throws TidepoolError INVALID_CONFIG */
  constructor(registries: Readonly<Record<string, RegistrySettings>>, openRegistries: boolean) {
    this.#open = openRegistries;
    for (const [name, settings] of Object.entries(registries)) {
      this.#configured.set(keyOf(name), {
        base: parseBase(name, settings.url),
        ca: settings.caFile === undefined ? settings.ca : readCa(name, settings.caFile),
        configured: true,
        skipVerify: settings.skipVerify,
        realms: settings.realms,
      });
    }
  }

  /**
   * Puts other URLs in the place of registries' own, as the hub says. The hub chooses among the doors that the node's
   * owner opened, and opens none: pulls bring accounts with them, and whoever could name any host to send them to would
   * have them. So a URL counts where this node has a registry at the same scheme, host and port (whose authorities are
   * taken along), or, with `openRegistries`, at any host by https.
   * @returns keys of registries that are elsewhere now, and what is wrong with those that were refused
   */
  choose(urls: Readonly<Record<string, string>>): {
    readonly moved: readonly string[];
    readonly refused: readonly string[];
  } {
    const before = this.#chosen;
    const chosen = new Map<string, Target>();
    const refused: string[] = [];
    for (const [name, url] of Object.entries(urls)) {
      try {
        chosen.set(keyOf(name), this.#allowed(name, url));
      } catch (error) {
        refused.push(describeError(error));
      }
    }
    this.#chosen = chosen;
    const keys = new Set([...before.keys(), ...chosen.keys()]);
    const moved = [...keys].filter((key) => before.get(key)?.base.href !== chosen.get(key)?.base.href);
    return { moved, refused };
  }

  #allowed(name: string, url: string): Target {
    const base = parseBase(name, url);
    if (!isRegistryHost(name)) {
      throw new TidepoolError('INVALID_REFERENCE', `not a registry's host: ${quote(name)}`);
    }
    for (const { base: own, ca, realms } of this.#configured.values()) {
      if (own.origin === base.origin) return { base, ca, configured: true, realms };
    }
    if (this.#open && base.protocol === 'https:') return { base, ca: undefined, configured: true };
    throw new TidepoolError(
      'REGISTRY_NOT_CONFIGURED',
      `registry ${name} stays where it is: this node may not dial ${base.origin}; start the agent with --registry NAME=${base.origin} to allow it`,
    );
  }

  /** What the node's owner named: registries' own URLs, and the token services beside them. */
  configuredUrls(): readonly URL[] {
    return [...this.#configured.values()].flatMap(({ base, realms = [] }) => [
      base,
      ...realms.map((host) => new URL(`https://${host}`)),
    ]);
  }

  /** One key for all spellings of a registry. */
  keyOf(registry: string): string {
    return keyOf(registry);
  }

  /** @throws TidepoolError REGISTRY_NOT_CONFIGURED, INVALID_REFERENCE */
  resolve(registry: string): Target {
    const key = keyOf(registry);
    const target = this.#chosen.get(key) ?? this.#configured.get(key);
    if (target !== undefined) return target;
    if (!isRegistryHost(registry)) {
      throw new TidepoolError('INVALID_REFERENCE', `not a registry's host: ${quote(registry)}`);
    }
    if (!this.#open) {
      throw new TidepoolError(
        'REGISTRY_NOT_CONFIGURED',
        `registry ${registry} is not configured on this node; start the agent with --registry ${registry}=URL`,
        { details: { registry } },
      );
    }
    return {
      base: new URL(key === 'docker.io' ? DOCKER_HUB : `https://${registry}`),
      ca: undefined,
      configured: false,
    };
  }
}

function keyOf(registry: string): string {
  const key = registry.toLowerCase();
  return key === 'index.docker.io' || key === 'registry-1.docker.io' ? 'docker.io' : key;
}

function parseBase(name: string, text: string): URL {
  const bad = (why: string): TidepoolError =>
    new TidepoolError('INVALID_CONFIG', `registry ${quote(name)}: not a base URL: ${quote(text)}; ${why}`);
  if (!URL.canParse(text)) throw bad('write it like https://registry.example or http://10.0.0.1:5000');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw bad('it must be http or https');
  if (url.username !== '' || url.password !== '') throw bad('accounts come from the runtime, not from here');
  if (url.search !== '' || url.hash !== '') throw bad('it must end with the host or a path');
  return url;
}

function readCa(name: string, path: string): string {
  let pem: string;
  try {
    pem = readFileSync(path, 'utf8');
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `registry ${quote(name)}: cannot read caFile ${quote(path)}: ${describeError(error)}`,
      { cause: error },
    );
  }
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `registry ${quote(name)}: no certificate in PEM form in ${quote(path)}`,
    );
  }
  return pem;
}
