import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readState, sha256 } from './atomic-file.ts';
import { type DirectoryCertificates, hostsToml } from './hosts-toml.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';

/** Of each registry's directory. */
export const HOSTS = 'hosts.toml';
/** The directory that containerd falls back to for registries without one of their own. */
export const DEFAULT_DIRECTORY = '_default';

/** What belongs into the hosts.toml files under one certs.d, by what stands and stood there. Only reads. */
export class HostsTexts {
  readonly #root: string;
  readonly #certsDir: string;

  /** @param root where certs.d is mounted here; @param certsDir its path as the host has it, which goes into the texts */
  constructor(root: string, certsDir: string) {
    this.#root = root;
    this.#certsDir = certsDir;
  }

  textOf(
    ledger: Ledger,
    { directory, madeDirectory, before }: Pick<LedgerEntry, 'directory' | 'madeDirectory' | 'before'>,
    { mirror, server }: NonNullable<LedgerEntry['configured']>,
    fallback: boolean,
  ): Buffer {
    const text = hostsToml({
      mirror,
      server,
      fallback,
      before:
        before === undefined
          ? this.#inherited(ledger, directory, madeDirectory)
          : ledger.backup(before).toString('utf8'),
      certificates: this.certificates(directory),
    });
    return Buffer.from(text);
  }

  /** As the ledger has it, or one of its two forms: a power cut may come between the ledger and the file. */
  isOurs(ledger: Ledger, entry: LedgerEntry, bytes: Buffer): boolean {
    if (sha256(bytes) === entry.written) return true;
    const { configured } = entry;
    return (
      configured !== undefined &&
      [true, false].some((fallback) => bytes.equals(this.textOf(ledger, entry, configured, fallback)))
    );
  }

  certificates(directory: string): DirectoryCertificates {
    const path = join(this.#certsDir, directory);
    const here = join(this.#root, directory);
    if (!isDirectory(here)) return { authorities: [], clients: [] };
    const files = readdirSync(here).sort();
    const pairs = files
      .filter((file) => file.endsWith('.cert'))
      .map((file): [string, string] => [file, `${file.slice(0, -'.cert'.length)}.key`]);
    return {
      authorities: files.filter((file) => file.endsWith('.crt')).map((file) => join(path, file)),
      clients: pairs
        .filter(([, key]) => files.includes(key))
        .map(([cert, key]) => [join(path, cert), join(path, key)]),
    };
  }

  /** A directory of its own takes a registry out of `_default`: what that says of it is taken along. */
  #inherited(ledger: Ledger, directory: string, madeDirectory: boolean): string | undefined {
    if (directory === DEFAULT_DIRECTORY || !madeDirectory) return undefined;
    const known = ledger.get(DEFAULT_DIRECTORY);
    if (known !== undefined) {
      return known.before === undefined ? undefined : ledger.backup(known.before).toString('utf8');
    }
    return readState(join(this.#root, DEFAULT_DIRECTORY, HOSTS))?.bytes.toString('utf8');
  }
}

export function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
