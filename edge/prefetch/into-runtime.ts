import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import type { ImageRef } from '../../shared/image-ref.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { Credentials } from '../origin/types.ts';
import { type Content, PRIORITY } from '../transfer/types.ts';
import { MAX_NOTE_CHARS } from './constants.ts';

/** The node's container runtime, as prefetches need it. */
export interface RuntimeImages {
  /**
   * Has the runtime pull an image by way of the mirror, which asks for the account of a private one; undefined where the node has no CRI socket.
   * @throws TidepoolError RUNTIME_NOT_CONFIGURED when it would go past the mirror, RUNTIME_ERROR, TIMEOUT, NOT_FOUND
   */
  pull(
    image: ImageRef,
    signal: AbortSignal,
    credentials?: Credentials,
  ): Promise<{ readonly imageId: string } | undefined>;
}

export type RuntimeOutcome = NonNullable<PrefetchProgress['runtime']>[number];

export interface IntoRuntimeInit {
  readonly image: ImageRef;
  /** As the job has it. */
  readonly written: string;
  /** The job names a digest besides the tag. */
  readonly pinned: boolean;
  /** What the store has now. */
  readonly digest: Digest;
  readonly credentials?: Credentials | undefined;
  readonly signal: AbortSignal;
}

/**
 * Brings an image from the store into the container runtime, under the name that pods use: kubelet looks for that one. An
 * image that the runtime knows by digest alone would be pulled again by tag. A tag that has moved past a pinned digest is
 * not followed. Undefined where a node is run without a runtime.
 */
export async function intoRuntime(
  components: { readonly content: Pick<Content, 'manifest'>; readonly runtime?: RuntimeImages | undefined },
  { image, written, pinned, digest, credentials, signal }: IntoRuntimeInit,
): Promise<RuntimeOutcome | undefined> {
  const { content, runtime } = components;
  if (runtime === undefined) return undefined;
  const { registry, repository, tag } = image;
  const byDigest: ImageRef = { registry, repository, digest };
  const moved = pinned && tag !== undefined && image.digest === undefined ? await whyNotByTag() : undefined;
  const pulled = await runtime.pull(moved === undefined ? image : byDigest, signal, credentials);
  if (pulled === undefined) {
    return { image: written, note: 'in the store alone: this node has no CRI socket' };
  }
  return {
    image: written,
    imageId: pulled.imageId.slice(0, MAX_NOTE_CHARS),
    ...(moved === undefined ? {} : { note: moved.slice(0, MAX_NOTE_CHARS) }),
  };

  async function whyNotByTag(): Promise<string | undefined> {
    try {
      const now = await content.manifest({
        registry,
        repository,
        reference: tag ?? '',
        credentials,
        priority: PRIORITY.prefetch,
        signal,
      });
      if (now.digest === digest) return undefined;
      return `pulled by digest: the tag ${tag} is ${now.digest} by now`;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TidepoolError) || isTidepoolError(error, 'INTERNAL')) throw error;
      return `pulled by digest: the tag ${tag} cannot be resolved (${describeError(error)})`;
    }
  }
}
