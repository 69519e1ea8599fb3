import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import { type BlobKey, type Digest, digestOf } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { Index, ManifestRecord, RepositoryName, ScopeTable } from '../index/types.ts';
import type { Provenance } from './access/provenance.ts';
import type { RepositoryGate } from './access/repository-gate.ts';
import { type GivenBy, mayHoldManifest, nameOf, ownersOf, type RuntimeImage } from './access/runtime-word.ts';
import { ASKED_AGAIN_MS, ASKED_REPOSITORIES, MAX_LOADED_IMAGES, MAX_LOADED_MANIFESTS } from './constants.ts';
import { type Descriptor, readDescriptors } from './descriptors.ts';
import type { Manifests } from './manifests.ts';

interface LoadedImagesComponents {
  readonly index: Pick<Index, 'tags'>;
  readonly scope: Pick<ScopeTable, 'access'>;
  readonly manifests: Pick<Manifests, 'keep'>;
  readonly provenance: Pick<Provenance, 'adopt'>;
  readonly gate: Pick<RepositoryGate, 'check'>;
  /** Small bytes of the runtime's, by digest; undefined when they are not there. Not checked. */
  readonly read: (digest: Digest) => Promise<Uint8Array | undefined>;
  /** The runtime has a file of this name. */
  readonly present: (digest: BlobKey) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

type NamedImage = RuntimeImage & RepositoryName & { readonly tag: string | undefined };

/** One image, as far as its manifests are here. */
interface Walk {
  readonly root: ManifestRecord;
  readonly children: readonly ManifestRecord[];
  readonly blobs: readonly Descriptor[];
  /** Of each manifest here, everything that it names is here too. */
  readonly complete: boolean;
}

export interface LoadedCounts {
  readonly images: number;
  /** Of these, images whose content is told of under their name. */
  readonly sharedImages: number;
}

/**
 * Images that the container runtime has by other ways than the mirror: loaded by hand, or pulled before there was one. Who may
 * put an image into this node's runtime may say what it is called; what that is worth to others is for the same rules to
 * decide as everything else that a member says: a tag is one member's statement, dated before every answer of a registry,
 * and who may pull is what the registry says, which is asked without an account.
 */
export class LoadedImages {
  readonly #c: LoadedImagesComponents;
  /** Of which nothing is left to do, by name and digest: everything that it names. */
  #done = new Map<string, readonly Digest[]>();
  /** Of those, images that are not told of. */
  #refused = new Set<string>();
  /** Repositories whose registries have not said that they are open to all. */
  readonly #asked: Recent<true>;
  #counts: LoadedCounts = { images: 0, sharedImages: 0 };

  constructor(components: LoadedImagesComponents) {
    this.#c = components;
    this.#asked = new Recent(components.clock, MAX_LOADED_IMAGES);
  }

  get counts(): LoadedCounts {
    return this.#counts;
  }

  /**
   * All that the runtime has now. An image that fails is passed over, and tried again the next time.
   * @param givenBy where the runtime says that it got something from
   */
  async update(
    images: readonly RuntimeImage[],
    givenBy: (digest: Digest) => Promise<GivenBy>,
    signal: AbortSignal,
  ): Promise<void> {
    const named = images.slice(0, MAX_LOADED_IMAGES).flatMap((image) => {
      const name = nameOf(image.name);
      return name === undefined ? [] : [{ ...image, ...name }];
    });
    const keys = new Set(named.map(keyOf));
    this.#done = new Map([...this.#done].filter(([key]) => keys.has(key)));
    this.#refused = new Set([...this.#refused].filter((key) => keys.has(key)));
    const fresh = named.filter((image) => !this.#done.has(keyOf(image)));
    if (fresh.length > 0) await this.#learn(named, fresh, givenBy, signal);
    this.#counts = { images: named.length, sharedImages: this.#done.size - this.#refused.size };
    await this.#askWhoMayPull(
      named.filter((image) => this.#done.has(keyOf(image)) && !this.#refused.has(keyOf(image))),
      signal,
    );
  }

  async #learn(
    all: readonly NamedImage[],
    fresh: readonly NamedImage[],
    givenBy: (digest: Digest) => Promise<GivenBy>,
    signal: AbortSignal,
  ): Promise<void> {
    const walks = new Map<Digest, Walk | undefined>();
    const names = new Map<Digest, Set<string>>();
    for (const image of all) {
      signal.throwIfAborted();
      const { registry } = image;
      for (const each of this.#done.get(keyOf(image)) ?? (await this.#namedBy(image, walks))) {
        names.set(each, (names.get(each) ?? new Set()).add(registry));
      }
    }
    for (const image of fresh) {
      signal.throwIfAborted();
      const walk = walks.get(image.digest);
      if (walk === undefined) continue;
      try {
        if (await this.#take(image, walk, names, givenBy)) this.#done.set(keyOf(image), digestsOf(walk));
      } catch (error) {
        signal.throwIfAborted();
        this.#c.log.warn(
          { image: image.name, why: describeError(error) },
          'an image of the container runtime cannot be shared',
        );
      }
    }
  }

  /** True when nothing is left to do for it. */
  async #take(
    image: NamedImage,
    walk: Walk,
    names: ReadonlyMap<Digest, ReadonlySet<string>>,
    givenBy: (digest: Digest) => Promise<GivenBy>,
  ): Promise<boolean> {
    const { registry, repository, tag, digest } = image;
    const name = { registry, repository };
    const ownersIn = async (each: Digest): Promise<{ given: GivenBy; isTheirs: boolean }> => {
      const given = await givenBy(each);
      return { given, isTheirs: ownersOf(names.get(each) ?? new Set(), given).has(registry) };
    };
    if (!(await ownersIn(digest)).isTheirs) {
      this.#c.log.info(
        { image: image.name },
        'an image of the container runtime is called after two registries, and is not shared',
      );
      this.#refused.add(keyOf(image));
      return true;
    }
    for (const blob of walk.blobs) {
      if (!this.#c.present(blob.digest)) continue;
      if ((await ownersIn(blob.digest)).isTheirs) this.#c.provenance.adopt([registry], blob.digest);
    }
    for (const child of walk.children) {
      const { given, isTheirs } = await ownersIn(child.digest);
      if (isTheirs && mayHoldManifest(name, given)) this.#c.manifests.keep(name, child);
    }
    this.#c.manifests.keep(name, walk.root);
    if (tag !== undefined) this.#c.index.tags.put({ ...name, tag, digest, originAt: 0 });
    if (walk.complete) {
      this.#c.log.debug(
        { image: image.name, digest },
        'an image of the container runtime is shared with the pool',
      );
    }
    return walk.complete;
  }

  /** A registry that lets everybody pull says so to one who shows no account. */
  async #askWhoMayPull(images: readonly NamedImage[], signal: AbortSignal): Promise<void> {
    const silent = new Set<string>();
    let questions = 0;
    for (const { registry, repository, digest } of images) {
      const name = { registry, repository };
      const key = `${registry}/${repository}`;
      if (silent.has(registry) || this.#asked.get(key) === true) continue;
      const { openAt, closedAt } = this.#c.scope.access(name);
      if (openAt !== undefined || closedAt !== undefined) continue;
      if (++questions > ASKED_REPOSITORIES) return;
      try {
        await this.#c.gate.check({ ...name, signal }, { digest, kind: 'manifest' });
        // Else it could not be asked, and our own rule lets everybody in meanwhile.
        if (this.#c.scope.access(name).openAt === undefined) silent.add(registry);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof TidepoolError)) throw error;
        // Its word is no, and it need not be asked for a while; its silence is not.
        if (error.details.offline === true) silent.add(registry);
        else this.#asked.set(key, true, ASKED_AGAIN_MS);
        this.#c.log.debug({ registry, repository, why: describeError(error) }, 'not known to be open to all');
      }
    }
  }

  async #namedBy(image: RuntimeImage, walks: Map<Digest, Walk | undefined>): Promise<readonly Digest[]> {
    if (!walks.has(image.digest)) {
      try {
        walks.set(image.digest, await this.#walk(image));
      } catch (error) {
        walks.set(image.digest, undefined);
        this.#c.log.debug(
          { image: image.name, why: describeError(error) },
          'an image of the container runtime cannot be read',
        );
      }
    }
    return digestsOf(walks.get(image.digest));
  }

  async #walk({ digest, mediaType }: RuntimeImage): Promise<Walk | undefined> {
    const root = await this.#manifest(digest, mediaType);
    if (root === undefined) return undefined;
    const { blobs, manifests } = readDescriptors(root);
    const children: ManifestRecord[] = [];
    const all = [...blobs];
    for (const each of manifests.slice(0, MAX_LOADED_MANIFESTS)) {
      const child = this.#c.present(each.digest)
        ? await this.#manifest(each.digest, each.mediaType)
        : undefined;
      if (child === undefined) continue;
      children.push(child);
      all.push(...readDescriptors(child).blobs);
    }
    const complete =
      (manifests.length === 0 || children.length > 0) && all.every((blob) => this.#c.present(blob.digest));
    return { root, children, blobs: all, complete };
  }

  async #manifest(digest: Digest, mediaType: string): Promise<ManifestRecord | undefined> {
    const bytes = await this.#c.read(digest);
    return bytes === undefined || digestOf(bytes) !== digest ? undefined : { digest, mediaType, bytes };
  }
}

function digestsOf(walk: Walk | undefined): Digest[] {
  if (walk === undefined) return [];
  return [walk.root, ...walk.children, ...walk.blobs].map(({ digest }) => digest);
}

function keyOf({ name, digest }: { readonly name: string; readonly digest: Digest }): string {
  return `${name} ${digest}`;
}
