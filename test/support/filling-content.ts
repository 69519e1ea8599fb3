import type { DocumentTable } from '../../edge/index/types.ts';
import type { Content, ManifestAnswer, TransferCounts } from '../../edge/transfer/types.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { FakeContent } from './fake-content.ts';

export type FillRequest = Parameters<Content['fill']>[0];

const NOTHING: TransferCounts = { wanBytes: 0, peerBytes: 0, localBytes: 0 };

/** Content whose fills do what a test says; by default each blob comes over the WAN at once. */
export class FillingContent implements Pick<Content, 'manifest' | 'fill'> {
  /** Holds the manifests. */
  readonly #names = new FakeContent();
  readonly fills: FillRequest[] = [];
  active = 0;
  peak = 0;
  sizes = new Map<Digest, number>();
  onFill: (request: FillRequest, size: number) => Promise<Partial<TransferCounts>> = async (_, size) => ({
    wanBytes: size,
  });

  get requests(): FakeContent['requests'] {
    return this.#names.requests;
  }

  set onAsk(hook: FakeContent['onAsk']) {
    this.#names.onAsk = hook;
  }

  manifest(request: Parameters<Content['manifest']>[0]): Promise<ManifestAnswer> {
    return this.#names.manifest(request);
  }

  addManifest(...args: Parameters<FakeContent['addManifest']>): Digest {
    return this.#names.addManifest(...args);
  }

  async fill(request: FillRequest): Promise<TransferCounts> {
    this.fills.push(request);
    this.active++;
    this.peak = Math.max(this.peak, this.active);
    try {
      return { ...NOTHING, ...(await this.onFill(request, this.sizes.get(request.digest) ?? 0)) };
    } finally {
      this.active--;
    }
  }

  /** An image of these blobs; the digest of its manifest. */
  addImage(
    name: string | undefined,
    blobs: readonly { digest: Digest; size: number }[],
    options: { mediaType?: string; extra?: string } = {},
  ): Digest {
    for (const { digest, size } of blobs) this.sizes.set(digest, size);
    const [config, ...layers] = blobs;
    const json = JSON.stringify({ config, layers, extra: options.extra });
    const type = options.mediaType ?? 'application/vnd.oci.image.manifest.v1+json';
    return this.addManifest(Buffer.from(json), type, name);
  }
}

/** Waits until its signal aborts, as a transfer that gets no byte does. */
export function never(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal === undefined) throw new TidepoolError('INTERNAL', 'a wait without an end');
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Documents in memory; what goes in comes out as JSON would have it. */
export class MemoryDocuments implements DocumentTable {
  readonly #texts = new Map<string, string>();

  get(name: string): unknown {
    const text = this.#texts.get(name);
    return text === undefined ? undefined : JSON.parse(text);
  }

  put(name: string, value: unknown): void {
    this.#texts.set(name, JSON.stringify(value));
  }

  delete(name: string): void {
    this.#texts.delete(name);
  }

  list(prefix: string): { name: string; value: unknown }[] {
    return [...this.#texts]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, text]) => ({ name, value: JSON.parse(text) }));
  }
}
