import { Counter, Gauge, type Registry } from 'prom-client';

/** What the disk has done to the store, and how it is looked after. */
export interface StoreHealth {
  /** Since the agent started: pieces that were not what they had been, and blobs that are whole again after that. */
  readonly damagedPieces: number;
  readonly repairedBlobs: number;
  /** Bytes that the scrub has read since the agent started; when its last pass ended, ms since 1970. */
  readonly scrubbedBytes: number;
  readonly lastScrubAt: number | null;
  /** How a lost index comes back from the files of the store, or came; null where none was lost. */
  readonly rebuild: {
    readonly running: boolean;
    readonly files: number;
    readonly found: number;
    readonly bytes: number;
  } | null;
}

/** Makes the metrics; the answer sets them. */
export function storeMetrics(registers: Registry[]): (health: StoreHealth | undefined) => void {
  const damaged = new Counter({
    name: 'tidepool_store_damaged_pieces_total',
    help: 'Pieces on the disk that were not what they had been when they came.',
    registers,
  });
  const repaired = new Counter({
    name: 'tidepool_store_repaired_blobs_total',
    help: 'Blobs that are whole again after damage.',
    registers,
  });
  const scrubbed = new Counter({
    name: 'tidepool_store_scrubbed_bytes_total',
    help: 'Bytes that were read to look for damage.',
    registers,
  });
  const lastPass = new Gauge({
    name: 'tidepool_store_last_scrub_seconds',
    help: 'When everything in the store was last looked through, seconds since 1970; 0 before the first time.',
    registers,
  });
  const rebuilding = new Gauge({
    name: 'tidepool_index_rebuilding',
    help: '1 while a lost index is made anew from the files of the store.',
    registers,
  });
  const found = new Gauge({
    name: 'tidepool_index_rebuild_files',
    help: 'Files of the store that were looked at to make a lost index anew; found: blobs that were right.',
    labelNames: ['state'],
    registers,
  });
  return (health) => {
    for (const counter of [damaged, repaired, scrubbed]) counter.reset();
    if (health === undefined) return;
    damaged.inc(health.damagedPieces);
    repaired.inc(health.repairedBlobs);
    scrubbed.inc(health.scrubbedBytes);
    lastPass.set((health.lastScrubAt ?? 0) / 1000);
    rebuilding.set(health.rebuild?.running === true ? 1 : 0);
    found.set({ state: 'all' }, health.rebuild?.files ?? 0);
    found.set({ state: 'found' }, health.rebuild?.found ?? 0);
  };
}
