import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { ManifestRecord, RepositoryName } from '../index/types.ts';
import type { BlobStore } from '../store/types.ts';
import type { Provenance } from './access/provenance.ts';
import { WARM_KEEP_MS } from './constants.ts';
import { type Descriptor, readDescriptors } from './descriptors.ts';
import type { Swarms } from './swarms.ts';
import { PRIORITY } from './types.ts';

interface WarmupComponents {
  readonly store: Pick<BlobStore, 'get'>;
  readonly swarms: Pick<Swarms, 'open'>;
  readonly provenance: Pick<Provenance, 'mayShare' | 'begin'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What a tag probably names. */
export interface Expected {
  readonly named: Digest;
  /** That, or of an index the manifest of one platform: what names layers. */
  readonly image: ManifestRecord;
}

export interface Warming {
  /** What the tag does name; undefined: nothing that is known. */
  answered(digest: Digest | undefined): void;
}

/**
 * While a registry is slower than usual, what a tag probably names comes here from neighbours that hold it, behind whatever
 * somebody waits for: where the uplink is gone, much of it is here by the time that this is known.
 */
export class Warmup {
  readonly #c: WarmupComponents;

  constructor(components: WarmupComponents) {
    this.#c = components;
  }

  /** @param quiet whether the registry has become slow before it has answered */
  whileQuiet(
    name: RepositoryName,
    quiet: Promise<boolean>,
    find: () => Promise<Expected | undefined>,
  ): Warming {
    let answer: { readonly digest: Digest | undefined } | undefined;
    let begun: { readonly named: Digest; readonly leave: () => void } | undefined;
    const settle = (): void => {
      if (answer === undefined || begun === undefined) return;
      const { named, leave } = begun;
      begun = undefined;
      // Until who asked for the tag asks for the content.
      if (answer.digest === named) this.#c.clock.after(WARM_KEEP_MS, leave);
      else leave();
    };
    const begin = async (): Promise<void> => {
      if (!(await quiet) || answer !== undefined) return;
      const expected = await find();
      if (expected === undefined || answer !== undefined) return;
      begun = { named: expected.named, leave: this.#enterAll(name, expected.image) };
    };
    begin().catch((error: unknown) => {
      this.#c.log.debug({ why: describeError(error) }, 'nothing is brought here in advance');
    });
    return {
      answered: (digest) => {
        answer ??= { digest };
        settle();
      },
    };
  }

  #enterAll(name: RepositoryName, image: ManifestRecord): () => void {
    const leaves = readDescriptors(image).blobs.flatMap((blob) => this.#enter(name, blob) ?? []);
    return () => {
      for (const leave of leaves.splice(0)) leave();
    };
  }

  #enter({ registry, repository }: RepositoryName, blob: Descriptor): (() => void) | undefined {
    const { store, swarms, provenance, log } = this.#c;
    const { digest, size } = blob;
    // Bytes of another registry's would have to be proved at this one first.
    if (store.get(digest)?.whole === true || !provenance.mayShare(registry, digest)) return undefined;
    try {
      provenance.begin(registry, digest);
      const download = swarms.open({ registry, repository, key: digest, size });
      const end = download.stored.layout.pieceCount;
      return download.enter({ mode: 'whole', priority: PRIORITY.background, cursor: 0, end, lan: true });
    } catch (error) {
      log.debug({ digest, why: describeError(error) }, 'cannot be brought here in advance');
      return undefined;
    }
  }
}
