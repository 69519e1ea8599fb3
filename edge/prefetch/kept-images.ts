import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { digest } from '../../shared/wire/messages/fields.ts';
import type { DocumentTable } from '../index/types.ts';
import { KEPT_LOOK_MS, MAX_KEPT } from './constants.ts';
import type { CountedTime } from './counted-time.ts';

const kept = z.object({
  id: z.string(),
  images: z.array(z.object({ image: z.string(), digest: digest.optional() })),
  /** By the counted time, ms. */
  since: z.number(),
  until: z.number(),
});
type Kept = z.infer<typeof kept>;

export type KeptImage = Kept['images'][number];

/** What a job keeps here, for people. */
export interface KeptJob {
  readonly id: string;
  readonly images: readonly string[];
  readonly leftMs: number;
}

interface KeptImagesComponents {
  readonly documents: DocumentTable;
  readonly time: Pick<CountedTime, 'now' | 'save'>;
  readonly clock: Clock;
  readonly log: Logger;
}

const PREFIX = 'prefetch-kept/';

/** Images that jobs have brought here and that stay for a time, whatever becomes of the jobs. It is all on disk. */
export class KeptImages implements Startable {
  readonly name = 'kept images';
  readonly #c: KeptImagesComponents;
  readonly #kept = new Map<string, Kept>();
  #cancel: () => void = () => undefined;
  #running = false;

  constructor(components: KeptImagesComponents) {
    this.#c = components;
    for (const { name, value } of components.documents.list(PREFIX)) {
      const result = kept.safeParse(value);
      if (result.success) this.#kept.set(result.data.id, result.data);
      else {
        components.log.warn({ name }, 'a note of images to keep cannot be read; they are kept no longer');
        components.documents.delete(name);
      }
    }
  }

  async start(): Promise<void> {
    this.#running = true;
    this.#look();
  }

  async stop(): Promise<void> {
    this.#running = false;
    this.#cancel();
    if (this.#kept.size > 0) this.#c.time.save();
  }

  /** From now on, in place of what the job kept before. */
  keep(id: string, images: readonly KeptImage[], ms: number): void {
    if (ms <= 0) {
      this.forget(id);
      return;
    }
    const since = this.#c.time.now();
    const entry: Kept = { id, images: images.map(namesOf), since, until: since + ms };
    this.#kept.set(id, entry);
    this.#write(entry);
    this.#c.time.save();
    this.#bound();
    if (this.#running) this.#look();
  }

  /** The job says another time, counted from when it was through. False where it keeps nothing. */
  change(id: string, ms: number): boolean {
    const entry = this.#kept.get(id);
    if (entry === undefined) return false;
    const changed = { ...entry, until: entry.since + ms };
    this.#kept.set(id, changed);
    this.#write(changed);
    this.#look();
    return true;
  }

  forget(id: string): void {
    if (!this.#kept.delete(id)) return;
    this.#c.documents.delete(PREFIX + id);
  }

  images(): KeptImage[] {
    const now = this.#c.time.now();
    return [...this.#kept.values()].flatMap(({ images, until }) => (until > now ? images : []));
  }

  view(): KeptJob[] {
    const now = this.#c.time.now();
    return [...this.#kept.values()].flatMap(({ id, images, until }) =>
      until > now ? [{ id, images: images.map(({ image }) => image), leftMs: until - now }] : [],
    );
  }

  #look(): void {
    this.#cancel();
    const now = this.#c.time.now();
    let next = KEPT_LOOK_MS;
    for (const { id, until } of [...this.#kept.values()]) {
      if (until > now) next = Math.min(next, until - now);
      else {
        this.#c.log.info({ id }, 'the images of a prefetch have been kept for their time and may go');
        this.forget(id);
      }
    }
    if (!this.#running || this.#kept.size === 0) return;
    this.#c.time.save();
    this.#cancel = this.#c.clock.after(Math.ceil(next), () => this.#look());
  }

  #bound(): void {
    if (this.#kept.size <= MAX_KEPT) return;
    const [first] = [...this.#kept.values()].sort((a, b) => a.until - b.until);
    if (first === undefined) return;
    this.#c.log.warn(
      { id: first.id, jobs: MAX_KEPT },
      'too many prefetches keep images; one keeps its no longer',
    );
    this.forget(first.id);
  }

  #write(entry: Kept): void {
    try {
      this.#c.documents.put(PREFIX + entry.id, entry);
    } catch (error) {
      // It holds in this process; a restart lets go of them.
      this.#c.log.error({ id: entry.id, why: describeError(error) }, 'images to keep could not be noted');
    }
  }
}

function namesOf({ image, digest: named }: KeptImage): KeptImage {
  return named === undefined ? { image } : { image, digest: named };
}
