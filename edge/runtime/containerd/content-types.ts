/** An image's name in one of containerd's namespaces, and what it stands for. */
export interface ContainerdImage {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly mediaType: string;
  readonly digest: string;
}

/** containerd's own interface. Errors of every call: NOT_FOUND, TIMEOUT, RUNTIME_ERROR, or the signal's reason. */
export interface ContainerdConnection {
  namespaces(signal: AbortSignal): Promise<readonly string[]>;
  images(namespace: string, signal: AbortSignal): Promise<readonly ContainerdImage[]>;
  /** Of a blob in its content store; undefined where the namespace has no such blob. */
  labels(
    namespace: string,
    digest: string,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, string>> | undefined>;
  /** Sets one label of an image, and leaves the others. */
  label(
    namespace: string,
    image: string,
    label: readonly [name: string, value: string],
    signal: AbortSignal,
  ): Promise<void>;
  close(): void;
}

export type ConnectContainerd = (socket: string) => Promise<ContainerdConnection>;
