import { setMaxListeners } from 'node:events';
import { TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import type { Digest } from '../../shared/ids.ts';
import { formatImageRef, type ImageRef } from '../../shared/image-ref.ts';
import type { Credentials } from '../origin/types.ts';
import { type Descriptor, readDescriptors } from '../transfer/descriptors.ts';
import { type Content, type ManifestAnswer, PRIORITY, type Priority } from '../transfer/types.ts';
import { BLOBS_AT_ONCE } from './constants.ts';
import { formatPlatform, type Platform, selectPlatform } from './platform.ts';
import { type PullProgress, Tally } from './tally.ts';

export interface PullOptions {
  readonly image: ImageRef;
  /** One manifest each is fetched where the image is an index. */
  readonly platforms: readonly Platform[];
  readonly credentials?: Credentials | undefined;
  readonly priority?: Priority;
  readonly signal?: AbortSignal;
  /** Called often: once a piece. */
  readonly onProgress?: (progress: PullProgress) => void;
  /** Of an earlier attempt at the same image, so that its traffic is counted too, and once. */
  readonly tally?: Tally;
}

export interface PullResult extends PullProgress {
  /** What the tag or digest stands for: of the index, where the image is one. */
  readonly digest: Digest;
  readonly manifests: readonly Digest[];
  /** Set when the origin could not be asked and a record answered: when the origin gave it. */
  readonly staleSince?: number;
}

/**
 * Brings an image into this node's store: the manifest as the origin has it (an index stays whole), then config and
 * layers of the platforms, some at a time.
 * @throws TidepoolError NOT_FOUND when an index has none of the platforms; else what {@link Content} throws
 */
export async function pullImage(
  components: { readonly content: Pick<Content, 'manifest' | 'fill'> },
  options: PullOptions,
): Promise<PullResult> {
  const { content } = components;
  const { image, signal } = options;
  const request = {
    registry: image.registry,
    repository: image.repository,
    credentials: options.credentials,
    priority: options.priority ?? PRIORITY.prefetch,
  };
  const manifest = (reference: string): Promise<ManifestAnswer> =>
    content.manifest({ ...request, reference, ...(signal === undefined ? {} : { signal }) });
  const root = await manifest(image.digest ?? image.tag ?? 'latest');
  const { manifests, blobs } = await resolve(root, options, manifest);
  const tally = options.tally ?? new Tally();
  const tell = (): void => options.onProgress?.(tally.progress());
  tally.begin(blobs);
  tell();
  await fillAll(blobs, signal, (blob, inner) =>
    content
      .fill({
        ...request,
        digest: blob.digest,
        signal: inner,
        onProgress: (counts) => {
          tally.moved(blob.digest, counts);
          tell();
        },
      })
      .then((counts) => {
        tally.whole(blob.digest, counts);
        tell();
      }),
  );
  if (image.tag !== undefined && image.digest !== undefined) await noteTag(manifest, image.tag, signal);
  return {
    ...tally.progress(),
    digest: root.digest,
    manifests,
    ...(root.staleSince === undefined ? {} : { staleSince: root.staleSince }),
  };
}

/**
 * Has the origin say what the tag names now, so that a pull by tag finds it while the origin is away. What was asked for
 * is here already: a tag that has moved on, or an origin that is silent, takes nothing from that.
 */
async function noteTag(
  manifest: (reference: string) => Promise<ManifestAnswer>,
  tag: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await manifest(tag);
  } catch {
    signal?.throwIfAborted();
  }
}

/** The manifests to have, and the blobs that they name, each once; configs stand before layers. */
async function resolve(
  root: ManifestAnswer,
  options: PullOptions,
  manifest: (reference: string) => Promise<ManifestAnswer>,
): Promise<{ manifests: Digest[]; blobs: Descriptor[] }> {
  const top = readDescriptors(root);
  const blobs = new Map<Digest, Descriptor>(top.blobs.map((blob) => [blob.digest, blob]));
  const manifests: Digest[] = [];
  if (top.manifests.length > 0) {
    const chosen = new Set<Digest>();
    for (const platform of options.platforms) {
      const entry = selectPlatform(top.manifests, platform);
      if (entry !== undefined) chosen.add(entry.digest);
    }
    if (chosen.size === 0) throw noPlatform(options, top.manifests);
    for (const digest of chosen) {
      const child = await manifest(digest);
      manifests.push(digest);
      for (const blob of readDescriptors(child).blobs) blobs.set(blob.digest, blob);
    }
  }
  return { manifests, blobs: [...blobs.values()] };
}

function noPlatform(options: PullOptions, entries: readonly Descriptor[]): TidepoolError {
  const known = entries.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  const wanted = options.platforms.map(formatPlatform).join(', ');
  return new TidepoolError(
    'NOT_FOUND',
    `${formatImageRef(options.image)} has nothing for ${wanted}; it is for ${[...new Set(known)].join(', ') || 'no platform'}`,
    { details: { reason: 'platform' } },
  );
}

/** Whether an image failed because it is not for this node: then there is nothing to retry, and nothing wrong. */
export function isOtherPlatform(error: unknown): boolean {
  return error instanceof TidepoolError && error.code === 'NOT_FOUND' && error.details.reason === 'platform';
}

/** Runs `fill` for each blob, a few at a time; the first failure calls the others off, and all have ended when this does. */
async function fillAll(
  blobs: readonly Descriptor[],
  signal: AbortSignal | undefined,
  fill: (blob: Descriptor, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const controller = new AbortController();
  // Each piece that is waited for listens.
  setMaxListeners(0, controller.signal);
  const onAbort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  const slots = new Slots(BLOBS_AT_ONCE);
  try {
    const settled = await Promise.allSettled(
      blobs.map(async (blob) => {
        const release = await slots.acquire({ signal: controller.signal });
        try {
          await fill(blob, controller.signal);
        } catch (error) {
          // The first failure is the one that tells why; the others only say that they were called off.
          if (!controller.signal.aborted) controller.abort(error);
          throw error;
        } finally {
          release();
        }
      }),
    );
    if (settled.some((result) => result.status === 'rejected')) throw controller.signal.reason;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
