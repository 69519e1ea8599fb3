import { type ReadCertificate, readCertificate } from './certificate.ts';
import type { Root } from './types.ts';

/** More than a pool has members and hubs; one takes some kilobytes. */
const MAX_KNOWN = 256;

interface Known {
  readonly read: ReadCertificate;
  /** PEM of the root whose signature has been verified. */
  readonly root: string;
}

/**
 * Certificates that a root has signed, as they were read: neighbours show theirs with each connection, and to read one and
 * verify it takes a millisecond. Nothing here is a verdict: what time, revocation and other roots make of it is asked anew.
 */
export class KnownCertificates {
  /** By DER, byte for byte; of those the one used last is the last. Strangers are not kept: they could push members out. */
  readonly #known = new Map<string, Known>();
  readonly #max: number;

  constructor(init: { readonly max?: number } = {}) {
    this.#max = init.max ?? MAX_KNOWN;
  }

  get size(): number {
    return this.#known.size;
  }

  /** @throws TidepoolError CERTIFICATE_REFUSED when it is none, or names nobody of this project */
  read(encoded: Uint8Array | string): ReadCertificate {
    return this.#known.get(keyOf(encoded))?.read ?? readCertificate(encoded);
  }

  /** Reads it, and says whether one of these roots has signed it. @throws as {@link read} */
  verify(encoded: Uint8Array | string, roots: readonly Root[]): { read: ReadCertificate; signed: boolean } {
    const key = keyOf(encoded);
    const known = this.#known.get(key);
    const read = known?.read ?? readCertificate(encoded);
    const root =
      known !== undefined && roots.some(({ pem }) => pem === known.root)
        ? known.root
        : roots.find((each) => isSignedBy(read, each))?.pem;
    if (root === undefined) {
      this.#known.delete(key);
      return { read, signed: false };
    }
    this.#keep(key, known?.root === root ? known : { read, root });
    return { read, signed: true };
  }

  #keep(key: string, known: Known): void {
    this.#known.delete(key);
    this.#known.set(key, known);
    if (this.#known.size <= this.#max) return;
    const [oldest] = this.#known.keys();
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}

function isSignedBy({ certificate }: ReadCertificate, root: Root): boolean {
  return certificate.checkIssued(root.certificate) && certificate.verify(root.certificate.publicKey);
}

function keyOf(encoded: Uint8Array | string): string {
  if (typeof encoded === 'string') return encoded;
  return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength).toString('latin1');
}
