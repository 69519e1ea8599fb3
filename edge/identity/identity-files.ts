/**
 * What a node is, on disk:
 *   node.pem     its private key and its certificate, in one file: never one of them without the other
 *   next.pem     the key of a request that is under way. Whatever ends in between, the next request is for the same key,
 *                so that a hub which has answered already answers the same again
 *   trust.json   roots, revoked keys, and the message of the hub that said so
 *   time.json    what signed things have proved of the time, and a count of the agent's starts
 */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import * as z from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { keyIdOf, parseKeyId, readCertificate, readRoots } from '../../shared/trust/certificate.ts';
import type { KeyId, Root } from '../../shared/trust/types.ts';
import { type FileOps, PrivateDirectory } from './private-file.ts';

const PAIR = 'node.pem';
const NEXT = 'next.pem';
const TRUST = 'trust.json';
const TIME = 'time.json';

/** PEM both. */
export interface NodePair {
  readonly key: string;
  readonly cert: string;
}

export interface Trust {
  readonly roots: readonly Root[];
  readonly revoked: ReadonlySet<KeyId>;
  readonly epoch: number;
  readonly version: number;
  /** The message that said so, as the hub signed it; for neighbours that were away. */
  readonly signed: Uint8Array | undefined;
}

export interface KeptTime {
  readonly floor: number;
  readonly aheadMs: number;
  readonly boots: number;
}

const trustFile = z.object({
  roots: z.string(),
  revoked: z.array(z.string().transform(parseKeyId)),
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  signed: z.string().nullable(),
});

const timeFile = z.object({
  floor: z.number().nonnegative(),
  aheadMs: z.number().nonnegative(),
  boots: z.number().int().nonnegative(),
});

export class IdentityFiles {
  readonly #directory: PrivateDirectory;
  readonly #path: string;

  constructor(path: string, files?: FileOps) {
    this.#path = path;
    this.#directory = new PrivateDirectory(path, files);
  }

  /** @throws TidepoolError INVALID_CONFIG for a damaged one: without its key a node is a stranger */
  pair(): NodePair | undefined {
    return this.#read(PAIR, (text) => {
      const [key, cert] = [block(text, 'PRIVATE KEY'), block(text, 'CERTIFICATE')];
      if (keyIdOf(createPublicKey(createPrivateKey(key))) !== readCertificate(cert).keyId)
        throw new Error('the certificate is not of this key');
      return { key, cert };
    });
  }

  setPair({ key, cert }: NodePair): void {
    this.#directory.write(PAIR, `${key.trim()}\n${cert.trim()}\n`);
  }

  next(): string | undefined {
    try {
      return this.#read(NEXT, (text) => {
        const key = block(text, 'PRIVATE KEY');
        createPrivateKey(key);
        return key;
      });
    } catch {
      // It was never used: another one is as good.
      return undefined;
    }
  }

  setNext(key: string): void {
    this.#directory.write(NEXT, key);
  }

  dropNext(): void {
    this.#directory.remove(NEXT);
  }

  /** @throws TidepoolError INVALID_CONFIG for a damaged one: a guess would be someone else's authority */
  trust(): Trust | undefined {
    return this.#read(TRUST, (text) => {
      const { roots, revoked, signed, ...rest } = trustFile.parse(JSON.parse(text));
      return {
        ...rest,
        roots: readRoots(roots),
        revoked: new Set(revoked),
        signed: signed === null ? undefined : Buffer.from(signed, 'base64'),
      };
    });
  }

  setTrust({ roots, revoked, epoch, version, signed }: Trust): void {
    this.#directory.write(
      TRUST,
      JSON.stringify({
        roots: roots.map(({ pem }) => pem).join(''),
        revoked: [...revoked],
        epoch,
        version,
        signed: signed === undefined ? null : Buffer.from(signed).toString('base64'),
      } satisfies z.input<typeof trustFile>),
    );
  }

  /** A damaged one counts as none: the next signed thing says the time again. */
  time(): KeptTime {
    try {
      const kept = this.#read(TIME, (text) => timeFile.parse(JSON.parse(text)));
      if (kept !== undefined) return kept;
    } catch {
      // As if there were none.
    }
    return { floor: 0, aheadMs: 0, boots: 0 };
  }

  setTime(time: KeptTime): void {
    this.#directory.write(TIME, JSON.stringify(time satisfies z.input<typeof timeFile>));
  }

  #read<T>(name: string, parse: (text: string) => T): T | undefined {
    try {
      const text = this.#directory.read(name);
      return text === undefined ? undefined : parse(text);
    } catch (error) {
      throw new TidepoolError(
        'INVALID_CONFIG',
        `${quote(`${this.#path}/${name}`)} cannot be used (${describeError(error).slice(0, 200)}); take the directory away and enrol this node again with --replace`,
        { cause: error },
      );
    }
  }
}

function block(text: string, label: string): string {
  const [found] = new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----`).exec(text) ?? [];
  if (found === undefined) throw new Error(`there is no ${label.toLowerCase()} in it`);
  return `${found}\n`;
}
