import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { isRegistryHost } from '../../shared/image-ref.ts';
import type { RegistryEntry } from './types.ts';

/** docker.io is a name that only runtimes know; its registry lives elsewhere. */
const DOCKER_HUB = 'https://registry-1.docker.io';
const LOOPBACK = /^(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(?::\d+)?$/;

export interface Target {
  readonly base: URL;
  readonly ca: string | undefined;
}

/** Which URL a registry's name stands for: as configured, else https at its name; plain http on loopback, as docker has it. */
export class RegistryMap {
  readonly #entries = new Map<string, Target>();

  /** @throws TidepoolError INVALID_CONFIG */
  constructor(entries: Readonly<Record<string, RegistryEntry>>) {
    for (const [name, { url, ca }] of Object.entries(entries)) {
      this.#entries.set(keyOf(name), { base: parseBase(name, url), ca });
    }
  }

  /** @throws TidepoolError INVALID_REFERENCE */
  resolve(registry: string): Target {
    const key = keyOf(registry);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    if (!isRegistryHost(registry)) {
      throw new TidepoolError('INVALID_REFERENCE', `not a registry's host: ${quote(registry)}`);
    }
    const scheme = LOOPBACK.test(key) ? 'http' : 'https';
    return { base: new URL(key === 'docker.io' ? DOCKER_HUB : `${scheme}://${registry}`), ca: undefined };
  }
}

function keyOf(registry: string): string {
  const key = registry.toLowerCase();
  return key === 'index.docker.io' || key === 'registry-1.docker.io' ? 'docker.io' : key;
}

/** @throws TidepoolError INVALID_CONFIG */
export function parseBase(name: string, text: string): URL {
  const bad = (why: string): TidepoolError =>
    new TidepoolError('INVALID_CONFIG', `registry ${quote(name)}: not a base URL: ${quote(text)}; ${why}`);
  if (!URL.canParse(text)) throw bad('write it like https://registry.example or http://10.0.0.1:5000');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw bad('it must be http or https');
  if (url.username !== '' || url.password !== '') throw bad('accounts come from pull secrets, not from here');
  if (url.search !== '' || url.hash !== '') throw bad('it must end with the host or a path');
  return url;
}
