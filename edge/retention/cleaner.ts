import { type Clock, delay } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { BlobKey, Digest } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { type Descriptors, readDescriptors } from '../../shared/registry/descriptors.ts';
import type { LeftoverTable } from '../index/leftover-table.ts';
import type { ManifestRecord, ManifestTable } from '../index/types.ts';
import { CLEAN_BATCH, CLEAN_MS, CLEAN_PAUSE_MS, IDLE_MANIFEST_MS, MAX_SIBLINGS } from './constants.ts';

interface CleanerComponents {
  readonly manifests: Pick<ManifestTable, 'get'>;
  readonly leftovers: Pick<
    LeftoverTable,
    'walk' | 'isHeld' | 'taggedWith' | 'siblings' | 'setIdle' | 'remove' | 'removeDetails' | 'removeTags'
  >;
  /** Looked at anew before each walk. */
  readonly pins: { has(key: BlobKey): boolean; refresh(): Promise<void> };
  /** Rows are gone: whoever remembers some has to look again. */
  readonly onRemoved: () => void;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface Cleaned {
  readonly manifests: number;
  readonly tags: number;
}

/**
 * Removes what was written down for content that is gone. A manifest stays as long as anything that it names is here, while it
 * is pinned, and while a tag that names it names another that stays: of a tag both records do. When nothing has needed it for a
 * while it goes, with its tags and what only it has put down.
 */
export class Cleaner implements Startable {
  readonly name = 'cleaner';
  readonly #c: CleanerComponents;
  #life = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(components: CleanerComponents) {
    this.#c = components;
  }

  async start(): Promise<void> {
    this.#life = new AbortController();
    this.#loop = this.#run(this.#life.signal);
  }

  async stop(): Promise<void> {
    this.#life.abort();
    await this.#loop;
  }

  /** One walk over all. Pauses after each batch. @throws TidepoolError STORE_FULL, STORE_CORRUPT, or the signal's reason */
  async clean(signal: AbortSignal): Promise<Cleaned> {
    const { clock, leftovers, pins } = this.#c;
    await pins.refresh();
    let manifests = 0;
    for (let after = 0; ; ) {
      const batch = leftovers.walk(after, CLEAN_BATCH);
      for (const manifest of batch) {
        after = manifest.row;
        if (this.#look(manifest)) manifests++;
      }
      if (batch.length < CLEAN_BATCH) break;
      await delay(clock, CLEAN_PAUSE_MS, signal);
    }
    let tags = 0;
    for (let gone = CLEAN_BATCH; gone === CLEAN_BATCH; ) {
      gone = leftovers.removeTags(clock.now() - IDLE_MANIFEST_MS, CLEAN_BATCH);
      tags += gone;
      await delay(clock, CLEAN_PAUSE_MS, signal);
    }
    for (let after: string | undefined = ''; after !== undefined; ) {
      after = leftovers.removeDetails(after, CLEAN_BATCH);
      this.#c.onRemoved();
      await delay(clock, CLEAN_PAUSE_MS, signal);
    }
    return { manifests, tags };
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#c;
    while (!signal.aborted) {
      try {
        await delay(clock, CLEAN_MS * (0.5 + random()), signal);
        const cleaned = await this.clean(signal);
        if (cleaned.manifests + cleaned.tags > 0)
          log.info(cleaned, 'what was written down of gone images is removed');
      } catch (error) {
        if (!signal.aborted) log.warn({ why: describeError(error) }, 'cannot clean up the index');
      }
    }
  }

  /** True when the manifest was removed. */
  #look(manifest: ReturnType<LeftoverTable['walk']>[number]): boolean {
    const { clock, leftovers } = this.#c;
    const { digest, idleSince } = manifest;
    const now = clock.now();
    if (this.#isNeeded(manifest) || leftovers.taggedWith(digest).some((other) => this.#isNeededBy(other))) {
      if (idleSince !== undefined) leftovers.setIdle(digest, undefined);
      return false;
    }
    // A clock that was set back makes it wait anew, not for ever.
    if (idleSince === undefined || idleSince > now) {
      leftovers.setIdle(digest, undefined);
      leftovers.setIdle(digest, now);
      return false;
    }
    if (now - idleSince < IDLE_MANIFEST_MS) return false;
    const siblings = leftovers.siblings(digest, MAX_SIBLINGS);
    // So large a repository costs more to look through than the rows are worth.
    if (siblings.length === MAX_SIBLINGS) return false;
    const keep = new Set<string>();
    for (const sibling of siblings) {
      const record = this.#c.manifests.get(sibling);
      if (record !== undefined) for (const named of namesOf(record)) keep.add(named);
    }
    leftovers.remove(digest, keep);
    this.#c.onRemoved();
    return true;
  }

  #isNeededBy(digest: Digest): boolean {
    const record = this.#c.manifests.get(digest);
    return record !== undefined && this.#isNeeded(record);
  }

  #isNeeded(record: ManifestRecord, depth = 0): boolean {
    const { leftovers, manifests, pins } = this.#c;
    if (pins.has(record.digest)) return true;
    const { blobs, manifests: children } = described(record);
    if (blobs.some(({ digest }) => leftovers.isHeld(digest))) return true;
    return children.some(({ digest }) => {
      const child = depth < MAX_DEPTH ? manifests.get(digest) : undefined;
      return child !== undefined && this.#isNeeded(child, depth + 1);
    });
  }
}

/** An index of indexes of indexes is nothing that anybody pulls. */
const MAX_DEPTH = 3;

function namesOf(record: ManifestRecord): Digest[] {
  const { blobs, manifests } = described(record);
  return [...blobs, ...manifests].map(({ digest }) => digest);
}

/** What cannot be read names nothing. */
function described(record: ManifestRecord): Descriptors {
  try {
    return readDescriptors(record);
  } catch {
    return { blobs: [], manifests: [] };
  }
}
