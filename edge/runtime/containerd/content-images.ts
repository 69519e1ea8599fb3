import { existsSync } from 'node:fs';
import type { Clock } from '../../../shared/clock.ts';
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import { type Digest, isDigest } from '../../../shared/ids.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import {
  IMAGES_MS,
  IMAGES_RETRY_MS,
  MAX_NAMESPACES,
  QUIET_AT_MOST_MS,
  QUIET_MS,
} from './content-constants.ts';
import type { ConnectContainerd, ContainerdConnection } from './content-types.ts';

/** What containerd notes of a blob that it fetched: `<prefix><registry's host, without a port>` is a list of repositories. */
const SOURCE_LABEL = 'containerd.io/distribution.source.';

/** An image that containerd has. */
export interface ContentImage {
  readonly name: string;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** Repositories that a blob was fetched from, by their registry's host. */
export type Sources = ReadonlyMap<string, readonly string[]>;

interface ContentImagesComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly connect: ConnectContainerd;
  /** Told of all images there are, each time they are listed; `sources` may be asked until it resolves. */
  readonly onImages: (
    images: readonly ContentImage[],
    sources: (digest: Digest) => Promise<Sources>,
    signal: AbortSignal,
  ) => Promise<void>;
}

/** What containerd calls the blobs of its content store: lists its images when blobs have come or gone, and now and then. */
export class ContentImages implements Startable {
  readonly name = 'content-images';
  readonly #c: ContentImagesComponents;
  readonly #socket: string | undefined;
  #life = new AbortController();
  #cancel: () => void = () => undefined;
  #firstChange: number | undefined;
  #work: Promise<void> = Promise.resolve();
  #problem: string | null = null;

  constructor(components: ContentImagesComponents, init: { readonly socket: string | undefined }) {
    this.#c = components;
    this.#socket = init.socket;
  }

  /** Why the images cannot be listed, as the last try found. */
  get problem(): string | null {
    return this.#problem;
  }

  async start(): Promise<void> {
    this.#life = new AbortController();
    if (this.#socket !== undefined) this.#listIn(QUIET_MS);
  }

  async stop(): Promise<void> {
    this.#life.abort(new TidepoolError('ABORTED', 'the agent is stopping'));
    this.#cancel();
    await this.#work;
  }

  /** Blobs have come or gone: images are listed once that is over. */
  changed(): void {
    if (this.#socket === undefined || this.#life.signal.aborted) return;
    const now = this.#c.clock.mono();
    this.#firstChange ??= now;
    this.#listIn(Math.min(QUIET_MS, Math.max(0, this.#firstChange + QUIET_AT_MOST_MS - now)));
  }

  /** Lists them now. Resolves when all has been done about them; failures are logged. */
  list(): Promise<void> {
    this.#cancel();
    this.#firstChange = undefined;
    this.#work = this.#work.then(() => this.#list());
    return this.#work;
  }

  #listIn(ms: number): void {
    this.#cancel();
    this.#cancel = this.#c.clock.after(ms, () => void this.list());
  }

  async #list(): Promise<void> {
    const { signal } = this.#life;
    const socket = this.#socket;
    if (socket === undefined || signal.aborted) return;
    let next = IMAGES_MS;
    let connection: ContainerdConnection | undefined;
    try {
      if (!existsSync(socket)) throw new TidepoolError('RUNTIME_ERROR', `there is no socket ${socket}`);
      connection = await this.#c.connect(socket);
      await this.#tell(connection, signal);
      this.#problem = null;
    } catch (error) {
      if (signal.aborted) return;
      const why = describeError(error);
      if (this.#problem === null) {
        this.#c.log.info(
          { why },
          "containerd's images cannot be listed: those it got by other ways than the mirror have no names",
        );
      }
      this.#problem = why;
      next = IMAGES_RETRY_MS;
    } finally {
      connection?.close();
    }
    if (this.#firstChange === undefined && !signal.aborted) this.#listIn(next);
  }

  async #tell(connection: ContainerdConnection, signal: AbortSignal): Promise<void> {
    const namespaces = (await connection.namespaces(signal)).slice(0, MAX_NAMESPACES);
    const images = new Map<string, ContentImage>();
    for (const namespace of namespaces) {
      for (const { name, digest, mediaType } of await connection.images(namespace, signal)) {
        if (isDigest(digest)) images.set(`${name} ${digest}`, { name, digest, mediaType });
      }
    }
    const known = new Map<Digest, Promise<Sources>>();
    const sources = (digest: Digest): Promise<Sources> => {
      let found = known.get(digest);
      if (found === undefined) {
        found = sourcesIn(connection, namespaces, digest, signal);
        known.set(digest, found);
      }
      return found;
    };
    await this.#c.onImages([...images.values()], sources, signal);
  }
}

/** What all namespaces note: they share bytes, and each knows only of what it fetched itself. */
async function sourcesIn(
  connection: ContainerdConnection,
  namespaces: readonly string[],
  digest: Digest,
  signal: AbortSignal,
): Promise<Sources> {
  const found = new Map<string, Set<string>>();
  for (const namespace of namespaces) {
    const labels = await connection.labels(namespace, digest, signal);
    for (const [label, value] of Object.entries(labels ?? {})) {
      if (!label.startsWith(SOURCE_LABEL)) continue;
      const registry = label.slice(SOURCE_LABEL.length);
      const repositories = found.get(registry) ?? new Set();
      for (const each of value.split(',')) if (each !== '') repositories.add(each);
      found.set(registry, repositories);
    }
  }
  return new Map([...found].map(([registry, repositories]) => [registry, [...repositories]]));
}
