import { type Digest, digestOf } from '../../../shared/ids.ts';
import { type BlobSource, blobOf, generateLayer } from './layers.ts';

export const MEDIA_TYPES = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar',
  },
} as const;

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

export interface SampleManifest extends Descriptor {
  readonly bytes: Uint8Array;
  /** Set for a document about another: listed under that one's referrers. */
  readonly subject?: Digest;
  readonly artifactType?: string;
}

/** One image, or an index of several with all they need. */
export interface SampleImage extends Descriptor {
  readonly platform: Platform | undefined;
  /** This one first, then those an index names. */
  readonly manifests: readonly SampleManifest[];
  readonly blobs: readonly BlobSource[];
  /** Bytes of every blob, config included, manifests not. */
  readonly blobBytes: number;
}

export interface ImageInit {
  /** Each a size and a seed, or the bytes themselves. Equal seed and size give equal layers. */
  readonly layers: readonly (
    | { readonly bytes: number; readonly seed: number }
    | { readonly content: Uint8Array }
  )[];
  readonly platform?: Platform;
  /** Merged over the `config` object of the image configuration (`Cmd`, `Env` …). */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly format?: 'oci' | 'docker';
  readonly annotations?: Readonly<Record<string, string>>;
  /** Makes the manifest a referrer of another one. */
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly cacheDir?: string;
}

/** This machine's platform in OCI words. */
export function hostPlatform(): Platform {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  return { os: 'linux', architecture, ...(architecture === 'arm64' ? { variant: 'v8' } : {}) };
}

/** A whole image; equal inits give equal digests on every machine (name the platform for that). */
export async function buildImage(init: ImageInit): Promise<SampleImage> {
  const types = MEDIA_TYPES[init.format ?? 'oci'];
  const platform = init.platform ?? hostPlatform();
  const layers: BlobSource[] = [];
  for (const layer of init.layers) {
    layers.push('content' in layer ? blobOf(layer.content) : await generateLayer(layer, init.cacheDir));
  }
  const config = blobOf(
    json({
      created: '2024-01-01T00:00:00Z',
      ...platform,
      config: { Cmd: ['/bin/true'], ...init.config },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
      history: layers.map((_, index) => ({
        created: '2024-01-01T00:00:00Z',
        created_by: `sample layer ${index}`,
      })),
    }),
  );
  const manifest = manifestOf(
    types.manifest,
    {
      schemaVersion: 2,
      mediaType: types.manifest,
      ...(init.artifactType === undefined ? {} : { artifactType: init.artifactType }),
      config: describe(config, types.config),
      layers: layers.map((layer) => describe(layer, types.layer)),
      ...(init.subject === undefined ? {} : { subject: pick(init.subject) }),
      ...(init.annotations === undefined ? {} : { annotations: init.annotations }),
    },
    { subject: init.subject?.digest, artifactType: init.artifactType },
  );
  return imageOf(manifest, platform, [manifest], [config, ...layers]);
}

/** A multi-platform index over images. */
export function buildIndex(images: readonly SampleImage[], format: 'oci' | 'docker' = 'oci'): SampleImage {
  const type = MEDIA_TYPES[format].index;
  const index = manifestOf(type, {
    schemaVersion: 2,
    mediaType: type,
    manifests: images.map((image) => ({ ...pick(image), platform: image.platform })),
  });
  const manifests = images.flatMap((image) => image.manifests);
  return imageOf(
    index,
    undefined,
    [index, ...manifests],
    images.flatMap((image) => image.blobs),
  );
}

function imageOf(
  head: SampleManifest,
  platform: Platform | undefined,
  manifests: readonly SampleManifest[],
  blobs: readonly BlobSource[],
): SampleImage {
  const once = [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
  const blobBytes = once.reduce((total, blob) => total + blob.size, 0);
  return { ...pick(head), platform, manifests, blobs: once, blobBytes };
}

function manifestOf(
  mediaType: string,
  document: object,
  about: { subject?: Digest | undefined; artifactType?: string | undefined } = {},
): SampleManifest {
  const bytes = json(document);
  return {
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
    bytes,
    ...(about.subject === undefined ? {} : { subject: about.subject }),
    ...(about.artifactType === undefined ? {} : { artifactType: about.artifactType }),
  };
}

function describe(blob: BlobSource, mediaType: string): Descriptor {
  return { mediaType, digest: blob.digest, size: blob.size };
}

function pick(descriptor: Descriptor): Descriptor {
  return { mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.size };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
