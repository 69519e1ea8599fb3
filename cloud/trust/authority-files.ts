import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { readRoots } from '../../shared/trust/certificate.ts';
import { replaceFile } from '../data/json-file.ts';
import type { AuthorityContent, Vault, Versioned } from './types.ts';

/** `ca.pem` and `ca.key` in a directory that is the hub's alone. */
export class AuthorityFiles implements Vault<AuthorityContent> {
  readonly #directory: string;

  constructor(init: { readonly directory: string }) {
    this.#directory = init.directory;
  }

  get place(): string {
    return this.#directory;
  }

  async read(): Promise<Versioned<AuthorityContent> | undefined> {
    const [roots, keys] = await Promise.all([readIfThere(this.#pem), readIfThere(this.#key)]);
    // Keys come first: a key without a certificate is a start that was interrupted.
    if (roots === undefined) return undefined;
    return { content: { roots, keys: keys ?? '' }, version: '' };
  }

  /** A new key is there before its certificate, and an old one goes after: what is read in between works. */
  async write({ roots, keys }: AuthorityContent): Promise<string> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await chmod(this.#directory, 0o700);
    const before = (await readIfThere(this.#key)) ?? '';
    await replaceFile(this.#key, `${keys}${before}`);
    await replaceFile(this.#pem, roots);
    await replaceFile(this.#key, keys);
    return '';
  }

  get #pem(): string {
    return path.join(this.#directory, 'ca.pem');
  }

  get #key(): string {
    return path.join(this.#directory, 'ca.key');
  }
}

export interface ExternalAuthorityInit {
  /** As cert-manager's `tls.crt`; the first certificate is the one that issues. */
  readonly cert: string;
  /** As `tls.key`. */
  readonly key: string;
  /** Roots that are trusted besides: the one before, or the next. */
  readonly roots?: string | undefined;
}

/** An authority that somebody else makes and replaces. */
export class ExternalAuthority implements Vault<AuthorityContent> {
  readonly #init: ExternalAuthorityInit;

  constructor(init: ExternalAuthorityInit) {
    this.#init = init;
  }

  get place(): string {
    return this.#init.cert;
  }

  async read(): Promise<Versioned<AuthorityContent>> {
    const { cert, key, roots: more } = this.#init;
    const [first] = readRoots(await mustRead(cert));
    const others = more === undefined ? [] : readRoots(await mustRead(more));
    const roots = [
      ...(first === undefined ? [] : [first]),
      ...others.filter((each) => each.keyId !== first?.keyId),
    ];
    return {
      content: { roots: roots.map(({ pem }) => pem).join(''), keys: await mustRead(key) },
      version: '',
    };
  }

  write(): Promise<string> {
    const message = `the authority is an external one (${this.#init.cert}): replace its files, name the root before in trust.roots, and start the hub again`;
    return Promise.reject(new TidepoolError('CONFLICT', message));
  }
}

async function mustRead(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const message = `${file} cannot be read: ${describeError(error)}`;
    throw new TidepoolError('INVALID_CONFIG', message, { cause: error });
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    const message = `${file} cannot be read: ${describeError(error)}`;
    throw new TidepoolError('STORE_CORRUPT', message, { cause: error });
  }
}
