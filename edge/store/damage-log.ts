import type { BlobKey } from '../../shared/ids.ts';
import type { EventSink } from '../../shared/wire/events.ts';

export interface DamageCounts {
  /** Pieces whose bytes on the disk were not those that came, or could not be read. */
  readonly pieces: number;
  /** Blobs that are whole again after that. */
  readonly repaired: number;
}

/** Damaged blobs that are remembered until they are whole again; beyond that only the count of repairs is too low. */
const MAX_REMEMBERED = 10_000;

/** What the disk has done to the store since the agent started. */
export class DamageLog {
  readonly #events: EventSink;
  readonly #damaged = new Set<BlobKey>();
  #pieces = 0;
  #repaired = 0;

  constructor(components: { readonly events: EventSink }) {
    this.#events = components.events;
  }

  get counts(): DamageCounts {
    return { pieces: this.#pieces, repaired: this.#repaired };
  }

  found(key: BlobKey, piece: number): void {
    this.#pieces++;
    if (this.#damaged.size < MAX_REMEMBERED) this.#damaged.add(key);
    this.#events.note({ kind: 'blob-damaged', key, detail: `piece ${piece}; it is fetched again on demand` });
  }

  /** The blob has been verified. */
  whole(key: BlobKey): void {
    if (!this.#damaged.delete(key)) return;
    this.#repaired++;
    this.#events.note({ kind: 'blob-repaired', key });
  }
}
