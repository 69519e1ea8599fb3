import type { Clock } from '../../shared/clock.ts';
import type { ManifestRecord, ProvenanceTable, ScopeTable, TagTable } from '../index/types.ts';
import type { BlobStore } from '../store/types.ts';
import type { Provenance } from '../transfer/access/provenance.ts';
import type { ImageWords, WordTrust } from '../transfer/image-words.ts';
import type { Manifests } from '../transfer/manifests.ts';
import type { CheckedImage } from './check-trees.ts';
import type { JudgedBundle } from './whose-word.ts';

interface NameBookComponents {
  readonly index: {
    readonly tags: Pick<TagTable, 'put'>;
    readonly scope: Pick<ScopeTable, 'access' | 'setAccess'>;
    readonly provenance: Pick<ProvenanceTable, 'prove'>;
    /** All that `work` writes or nothing, durable when it returns. */
    atomically(work: () => void): void;
  };
  readonly store: Pick<BlobStore, 'get'>;
  readonly manifests: Pick<Manifests, 'keep'>;
  readonly provenance: Pick<Provenance, 'prove'>;
  readonly words: Pick<ImageWords, 'keep'>;
  readonly trust: Pick<WordTrust, 'trustedNow'> | undefined;
  readonly clock: Clock;
}

/** Gives what a bundle has brought its names: from then on it can be pulled, here and by neighbours. */
export class NameBook {
  readonly #c: NameBookComponents;

  constructor(components: NameBookComponents) {
    this.#c = components;
  }

  /** In one transaction, with what `also` does. @throws TidepoolError STORE_FULL */
  write(images: readonly CheckedImage[], judged: JudgedBundle, also: () => void): void {
    const { index, provenance } = this.#c;
    index.atomically(() => {
      for (const [n, each] of images.entries()) this.#writeOne(each, judged, n);
      also();
    });
    // Only now, since what is remembered of it outside of the index knows of no transaction.
    for (const { image, tree } of images) {
      for (const { digest } of this.#here(tree)) provenance.prove(image.registry, digest);
    }
  }

  #writeOne({ image, tree }: CheckedImage, { words }: JudgedBundle, n: number): void {
    const { index, manifests } = this.#c;
    const { registry, repository, tag, digest, open } = image;
    const name = { registry, repository };
    for (const { digest: each, mediaType, bytes } of tree.manifests) {
      manifests.keep(name, { digest: each, mediaType, bytes } satisfies ManifestRecord);
    }
    for (const { digest: each } of this.#here(tree)) index.provenance.prove(each, registry);
    const word = words[n];
    // What nobody has signed is this node's own word, given now.
    const at = word?.at ?? Math.floor(this.#c.trust?.trustedNow() ?? this.#c.clock.now());
    if (tag !== undefined) index.tags.put({ registry, repository, tag, digest, originAt: at });
    if (word !== undefined && image.word !== undefined) this.#c.words.keep(image.word, word);
    const access = index.scope.access(name);
    if (open && at > (access.openAt ?? 0)) index.scope.setAccess(name, { openAt: at });
  }

  /** What the bundle counts on may be at a neighbour. */
  #here(tree: CheckedImage['tree']): CheckedImage['tree']['blobs'] {
    return tree.blobs.filter(({ digest }) => this.#c.store.get(digest)?.whole === true);
  }
}
