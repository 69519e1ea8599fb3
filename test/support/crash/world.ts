import type { OriginBody, OriginManifest, RegistryOrigin } from '../../../edge/origin/types.ts';
import { TidepoolError } from '../../../shared/errors.ts';
import { type Digest, digestOf } from '../../../shared/ids.ts';
import { sampleBytes } from '../store-fixture.ts';

const KIB = 1024;
const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';

export const NAME = { registry: 'reg.example', repository: 'lab/app' } as const;

interface Image {
  readonly tag: string;
  readonly manifest: Buffer;
  readonly blobs: readonly Digest[];
}

/** A registry in memory with a few images, whose blobs are of one piece to five. */
export class MemoryOrigin implements RegistryOrigin {
  readonly content = new Map<Digest, Buffer>();
  readonly #tags = new Map<string, Digest>();
  readonly images: readonly Image[];
  /** Bytes of blobs that were read. */
  read = 0;
  /** Blobs whose bytes come out wrong. */
  readonly broken = new Set<Digest>();
  /** Called with each read's blob and first byte; what it throws the read fails with. */
  onRead: (digest: Digest, start: number) => void = () => undefined;

  constructor() {
    const layers = [300, 700, 100, 260, 520].map((kib, n) =>
      this.#add(sampleBytes(kib * KIB + 17 * n, n + 1)),
    );
    const of = (...numbers: number[]): Digest[] => numbers.flatMap((n) => layers[n] ?? []);
    this.images = [
      this.#image('one', of(0, 1, 2)),
      this.#image('two', of(2, 3)),
      this.#image('three', of(4)),
    ];
  }

  #add(bytes: Buffer): Digest {
    const digest = digestOf(bytes);
    this.content.set(digest, bytes);
    return digest;
  }

  #image(tag: string, layers: readonly Digest[]): Image {
    const config = this.#add(Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', tag })));
    const described = (digest: Digest) => ({ digest, size: this.content.get(digest)?.length ?? 0 });
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MEDIA_TYPE,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...described(config) },
        layers: layers.map((digest) => ({
          mediaType: 'application/vnd.oci.image.layer.v1.tar',
          ...described(digest),
        })),
      }),
    );
    this.#tags.set(tag, this.#add(manifest));
    return { tag, manifest, blobs: [config, ...layers] };
  }

  async manifest(request: Parameters<RegistryOrigin['manifest']>[0]): Promise<OriginManifest> {
    const digest = this.#tags.get(request.reference) ?? (request.reference as Digest);
    const bytes = this.content.get(digest);
    if (bytes === undefined) throw new TidepoolError('MANIFEST_UNKNOWN', `no ${request.reference} here`);
    const { length: size } = bytes;
    return { digest, mediaType: MEDIA_TYPE, size, at: 1_000, ...(request.method === 'GET' ? { bytes } : {}) };
  }

  async blobSize({ digest }: { digest: Digest }): Promise<number> {
    return this.bytesOf(digest).length;
  }

  async blob(request: Parameters<RegistryOrigin['blob']>[0]): Promise<OriginBody> {
    const bytes = this.bytesOf(request.digest);
    const { digest, start } = request;
    this.onRead(digest, start);
    const part = Buffer.from(bytes.subarray(start, request.end));
    this.read += part.length;
    if (this.broken.has(digest)) part.fill(0, 0, 100);
    async function* body(): AsyncGenerator<Uint8Array> {
      yield part;
    }
    return { ranged: true, start, size: bytes.length, body: body() };
  }

  async passThrough(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'nothing passes through here');
  }

  downSince(): undefined {
    return undefined;
  }

  bytesOf(digest: string): Buffer {
    for (const [known, bytes] of this.content) if (known === digest) return bytes;
    throw new TidepoolError('BLOB_UNKNOWN', `no ${digest} here`);
  }
}
