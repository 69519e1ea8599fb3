/** An image as kubelet sees it. */
export interface CriImage {
  /** What the runtime calls it: the digest of its config. */
  readonly id: string;
  readonly tags: readonly string[];
  /** `repository@sha256:…` */
  readonly digests: readonly string[];
  readonly bytes: number;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default: of the kind of call. */
  readonly timeoutMs?: number | undefined;
}

/**
 * One connection to a container runtime (CRI runtime.v1). Errors of every call: RUNTIME_NOT_CONFIGURED (the runtime serves no
 * CRI), NOT_FOUND, TIMEOUT, RUNTIME_ERROR (refused, does not answer, or failed for its own reasons), or the signal's reason.
 */
export interface RuntimeConnection {
  version(options?: CallOptions): Promise<{ readonly name: string; readonly version: string }>;
  /** Undefined when the runtime has no such image. */
  imageStatus(image: string, options?: CallOptions): Promise<CriImage | undefined>;
  listImages(options?: CallOptions): Promise<readonly CriImage[]>;
  /** What containers were made of, as the runtime calls it: an image's id, `repository@sha256:…`, or a tag. */
  listContainerImages(options?: CallOptions): Promise<readonly string[]>;
  /** The answer is what the runtime calls the image. */
  pullImage(
    image: string,
    options?: CallOptions & { readonly account?: PullAccount | undefined },
  ): Promise<string>;
  close(): void;
}

/** For whoever asks for one on the way: the mirror, or the registry itself. */
export interface PullAccount {
  readonly username: string;
  readonly password: string;
}

export type Connect = (socket: string) => Promise<RuntimeConnection>;
