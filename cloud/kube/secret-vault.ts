import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { TidepoolError } from '../../shared/errors.ts';
import type { AuthorityContent, Vault, Versioned } from '../trust/types.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { stringAt } from './objects.ts';

/** Of a Secret's data, as the API server counts it. */
const MAX_BYTES = 1_000_000;
/** What is unpacked at most: JSON shrinks to a fifth at best where it is made of keys. */
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024;

export interface SecretVaultInit {
  readonly namespace: string;
  readonly name: string;
}

/** Entries of a Secret that all hubs of a cluster share; written by compare-and-swap. */
class SecretEntries implements Vault<Readonly<Record<string, Buffer>>> {
  readonly #client: Pick<KubeApi, 'json'>;
  readonly #init: SecretVaultInit;
  readonly #keys: readonly string[];

  constructor(client: Pick<KubeApi, 'json'>, init: SecretVaultInit, keys: readonly string[]) {
    this.#client = client;
    this.#init = init;
    this.#keys = keys;
  }

  get place(): string {
    return `secret ${this.#init.namespace}/${this.#init.name}`;
  }

  async read(signal?: AbortSignal): Promise<Versioned<Readonly<Record<string, Buffer>>> | undefined> {
    try {
      const secret = await this.#client.json('GET', { path: this.#path, signal });
      const content: Record<string, Buffer> = {};
      for (const key of this.#keys) {
        const text = stringAt(secret, 'data', key);
        if (text !== undefined) content[key] = Buffer.from(text, 'base64');
      }
      return { content, version: versionOf(secret) };
    } catch (error) {
      if (isKubeError(error, 404)) return undefined;
      throw this.#explained(error, 'get');
    }
  }

  async write(
    content: Readonly<Record<string, Buffer>>,
    expected: string | undefined,
    signal?: AbortSignal,
  ): Promise<string> {
    const bytes = Object.values(content).reduce((sum, each) => sum + each.length, 0);
    if (bytes > MAX_BYTES) {
      const message = `${this.place} would get ${bytes} bytes, and a Secret holds ${MAX_BYTES}`;
      throw new TidepoolError('STORE_FULL', message);
    }
    const { namespace, name } = this.#init;
    const data = Object.fromEntries(
      Object.entries(content).map(([key, value]) => [key, value.toString('base64')]),
    );
    const labels = { 'app.kubernetes.io/managed-by': 'tidepool-hub' };
    const body = {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'Opaque',
      metadata: { namespace, name, labels, ...(expected === undefined ? {} : { resourceVersion: expected }) },
      data,
    };
    try {
      const written =
        expected === undefined
          ? await this.#client.json('POST', { path: this.#collection, body, signal })
          : await this.#client.json('PUT', { path: this.#path, body, signal });
      return versionOf(written);
    } catch (error) {
      throw this.#explained(error, expected === undefined ? 'create' : 'update');
    }
  }

  get #collection(): string {
    return `/api/v1/namespaces/${this.#init.namespace}/secrets`;
  }

  get #path(): string {
    return `${this.#collection}/${this.#init.name}`;
  }

  #explained(error: unknown, verb: string): unknown {
    if (!isKubeError(error, 401, 403)) return error;
    const message = `the hub may not ${verb} ${this.place}: give its service account that verb on it (the chart does)`;
    return new TidepoolError('DENIED', message, { cause: error });
  }
}

const ROOTS = 'ca.pem';
const KEYS = 'ca.key';

/** The authority of a cluster's hubs: `ca.pem` and `ca.key` of one Secret. */
export class AuthoritySecret implements Vault<AuthorityContent> {
  readonly #entries: SecretEntries;

  constructor(components: { readonly client: Pick<KubeApi, 'json'> }, init: SecretVaultInit) {
    this.#entries = new SecretEntries(components.client, init, [ROOTS, KEYS]);
  }

  get place(): string {
    return this.#entries.place;
  }

  async read(signal?: AbortSignal): Promise<Versioned<AuthorityContent> | undefined> {
    const found = await this.#entries.read(signal);
    if (found === undefined) return undefined;
    const textOf = (key: string): string => found.content[key]?.toString('utf8') ?? '';
    return { content: { roots: textOf(ROOTS), keys: textOf(KEYS) }, version: found.version };
  }

  write(
    { roots, keys }: AuthorityContent,
    expected: string | undefined,
    signal?: AbortSignal,
  ): Promise<string> {
    return this.#entries.write({ [ROOTS]: Buffer.from(roots), [KEYS]: Buffer.from(keys) }, expected, signal);
  }
}

const BOOK = 'book.json.gz';

/** A text in a Secret of its own, packed: 10,000 nodes fit. */
export class TextSecret implements Vault<string> {
  readonly #entries: SecretEntries;

  constructor(components: { readonly client: Pick<KubeApi, 'json'> }, init: SecretVaultInit) {
    this.#entries = new SecretEntries(components.client, init, [BOOK]);
  }

  get place(): string {
    return this.#entries.place;
  }

  async read(signal?: AbortSignal): Promise<Versioned<string> | undefined> {
    const found = await this.#entries.read(signal);
    if (found === undefined) return undefined;
    const packed = found.content[BOOK];
    if (packed === undefined) throw this.#unreadable('it has no such entry');
    try {
      const text = await promisify(gunzip)(packed, { maxOutputLength: MAX_UNPACKED_BYTES });
      return { content: text.toString('utf8'), version: found.version };
    } catch (error) {
      throw this.#unreadable('it is not packed with gzip', error);
    }
  }

  async write(content: string, expected: string | undefined, signal?: AbortSignal): Promise<string> {
    return await this.#entries.write({ [BOOK]: await promisify(gzip)(content) }, expected, signal);
  }

  #unreadable(why: string, cause?: unknown): TidepoolError {
    const message = `${BOOK} of ${this.place} cannot be read: ${why}; restore it from a backup`;
    return new TidepoolError('STORE_CORRUPT', message, { cause });
  }
}

function versionOf(secret: unknown): string {
  return stringAt(secret, 'metadata', 'resourceVersion') ?? '';
}
