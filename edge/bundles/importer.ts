import { describeError, TidepoolError } from '../../shared/errors.ts';
import { type BlobKey, type Digest, isDigest, type NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { bundleBytes } from '../../shared/oci-layout/layout-files.ts';
import { BundleReader } from '../../shared/oci-layout/read-bundle.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import { nameOf, type Statement } from '../../shared/oci-layout/statement.ts';
import type { StatementFile } from '../../shared/oci-layout/statement-file.ts';
import type { Platform } from '../../shared/registry/platform.ts';
import { formatBytes } from '../../shared/units.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { DocumentTable, ProvenanceTable } from '../index/types.ts';
import type { BlobStore } from '../store/types.ts';
import type { ImageWords, WordTrust } from '../transfer/image-words.ts';
import { BlobIntake, checkOnly } from './blob-intake.ts';
import { type CheckedImage, checkPlatform, checkTrees } from './check-trees.ts';
import { BEGUN_DOCUMENT, PROGRESS_BYTES } from './constants.ts';
import type { NameBook } from './name-book.ts';
import type { BundleState, HeldInPool, Imported, ImportInit } from './types.ts';
import { type JudgedBundle, judgeBundle } from './whose-word.ts';

export interface ImporterComponents {
  readonly store: Pick<BlobStore, 'get' | 'open' | 'buffer' | 'remove' | 'flush'>;
  readonly documents: DocumentTable;
  readonly provenance: Pick<ProvenanceTable, 'list'>;
  readonly names: NameBook;
  readonly words: ImageWords;
  /** Undefined: nobody's signature can be told from another's. */
  readonly trust: (WordTrust & { learnTime(at: number): void }) | undefined;
  readonly heldInPool: HeldInPool;
  /** Bytes that the store may grow by. */
  readonly room: () => Promise<number>;
  readonly active: (key: BlobKey) => boolean;
  readonly events: EventSink;
  readonly log: Logger;
}

interface Running {
  readonly reader: BundleReader;
  readonly said: Statement;
  readonly judged: JudgedBundle;
  readonly images: readonly CheckedImage[];
  readonly init: ImportInit;
}

/**
 * Takes bundles in, one at a time: all of one or nothing. Blobs go to the store as they come and are nobody's until the last
 * byte has been checked; then all names are written at once.
 */
export class BundleImporter implements Startable {
  readonly name = 'bundles';
  readonly #c: ImporterComponents;
  readonly #init: { readonly self: NodeName; readonly platform: Platform };
  readonly #counts = { imported: 0, importedBytes: 0, refused: 0 };
  #isBusy = false;
  /** Of the import under way: nobody has used them yet, and they must not be thought useless. */
  #pinned: ReadonlySet<BlobKey> = new Set();

  constructor(
    components: ImporterComponents,
    init: { readonly self: NodeName; readonly platform: Platform },
  ) {
    this.#c = components;
    this.#init = init;
  }

  /** What an import had begun when this process was ended is taken away. */
  async start(): Promise<void> {
    const begun = this.#c.documents.get(BEGUN_DOCUMENT);
    if (!Array.isArray(begun)) return;
    let removed = 0;
    for (const key of begun) {
      // Whose registry is known was pulled meanwhile.
      if (typeof key !== 'string' || !isDigest(key) || this.#c.provenance.list(key).length > 0) continue;
      await this.#c.store.remove(key);
      removed++;
    }
    this.#c.documents.delete(BEGUN_DOCUMENT);
    this.#c.log.warn({ blobs: removed }, 'a bundle was being imported when the agent ended; import it again');
  }

  async stop(): Promise<void> {}

  /** Since the agent started; bytes are those that were new here. */
  get state(): BundleState {
    return { ...this.#counts, importing: this.#isBusy };
  }

  /** Whether an import under way needs it. */
  pins(key: BlobKey): boolean {
    return this.#pinned.has(key);
  }

  /**
   * Reads a bundle to its end.
   * @throws TidepoolError BUNDLE_REFUSED, SIGNATURE_WRONG, CERTIFICATE_REFUSED, STORE_FULL, CONFLICT while another is read,
   * what the source throws, or the signal's reason; then nothing of it is here
   */
  async take(source: AsyncIterable<Uint8Array>, init: ImportInit): Promise<Imported> {
    if (this.#isBusy) throw new TidepoolError('CONFLICT', 'another bundle is being imported; wait for it');
    this.#isBusy = true;
    const reader = new BundleReader(source);
    try {
      return await this.#readAll(reader, init);
    } catch (error) {
      this.#counts.refused++;
      this.#c.log.warn({ reason: describeError(error), bytes: reader.read }, 'a bundle was not imported');
      this.#c.events.note({ kind: 'bundle-refused', detail: describeError(error) });
      throw error;
    } finally {
      this.#isBusy = false;
      this.#pinned = new Set();
      await reader.close();
    }
  }

  async #readAll(reader: BundleReader, init: ImportInit): Promise<Imported> {
    const file = await reader.statement();
    const said = file.statement;
    const judged = judgeBundle(this.#c, file, init);
    const images = checkTrees(said, await reader.manifests(said));
    if (!init.anyPlatform) checkPlatform(images, this.#init.platform);
    await this.#checkBase(images, said, init.signal);
    const running: Running = { reader, said, judged, images, init };
    const total = bundleBytes(file.bytes, said);
    if (init.check) await this.#readBlobs(running, total, checkOnly);
    const newBytes = init.check ? 0 : await this.#takeBlobs(running, total);
    this.#tell(file, judged, init, newBytes);
    return {
      images: said.images.map((image) => ({ name: nameOf(image), digest: image.digest })),
      word: judged.word,
      bytes: total,
      newBytes,
      blobs: said.blobs.length,
    };
  }

  async #takeBlobs(running: Running, total: number): Promise<number> {
    const { store, documents, active } = this.#c;
    const { said, judged, images } = running;
    await this.#checkRoom(said);
    const fresh = said.blobs.filter(({ digest }) => store.get(digest) === undefined);
    this.#pinned = new Set(said.blobs.map(({ digest }) => digest));
    documents.put(
      BEGUN_DOCUMENT,
      fresh.map(({ digest }) => digest),
    );
    const intake = new BlobIntake({ store, active }, { self: this.#init.self });
    try {
      await this.#readBlobs(running, total, (blob, read, signal) => intake.take(blob, read, signal));
      await store.flush();
      const gone = said.blobs.find(({ digest }) => store.get(digest)?.whole !== true);
      if (gone !== undefined) {
        throw new TidepoolError(
          'STORE_FULL',
          `${gone.digest} of the bundle could not be kept; free some space`,
        );
      }
      this.#c.names.write(images, judged, () => documents.delete(BEGUN_DOCUMENT));
    } catch (error) {
      await intake.undo();
      documents.delete(BEGUN_DOCUMENT);
      throw error;
    }
    return intake.newBytes;
  }

  /** All blobs, and then the end: only a bundle that has been read to there is whole. */
  async #readBlobs({ reader, said, init }: Running, total: number, take: BlobIntake['take']): Promise<void> {
    let told = 0;
    for (const blob of said.blobs) {
      await reader.blob(blob, (read) =>
        take(
          blob,
          async (target) => {
            await read(target);
            if (reader.read - told < PROGRESS_BYTES) return;
            told = reader.read;
            init.onProgress(told, total);
          },
          init.signal,
        ),
      );
    }
    await reader.end();
    init.onProgress(total, total);
  }

  /** What the bundle counts on has to be in the pool: without it, its images could be pulled by nobody. */
  async #checkBase(images: readonly CheckedImage[], said: Statement, signal: AbortSignal): Promise<void> {
    for (const { image, base } of images) {
      if (base.length === 0) continue;
      const held = await this.#c.heldInPool(base, image, signal);
      const missing = base.filter((digest) => !held.has(digest));
      if (missing.length === 0) continue;
      throw bundleRefused(
        `it counts on ${said.base ?? 'an earlier one'}, and ${missing.length} of its blobs are not in this pool (${missing[0]}); import that one first`,
      );
    }
  }

  async #checkRoom({ blobs }: Statement): Promise<void> {
    const needed = blobs.reduce((sum, blob) => sum + this.#missingOf(blob.digest, blob.size), 0);
    const room = await this.#c.room();
    if (needed <= room) return;
    throw new TidepoolError(
      'STORE_FULL',
      `the bundle needs ${formatBytes(needed)} and the store has room for ${formatBytes(Math.max(0, room))}; free some space, or raise the quota`,
      { details: { needed, room } },
    );
  }

  #missingOf(digest: Digest, size: number): number {
    const stored = this.#c.store.get(digest);
    if (stored === undefined) return size;
    return stored.whole ? 0 : Math.max(0, size - stored.have.count * stored.layout.pieceSize);
  }

  #tell({ statement }: StatementFile, { word }: JudgedBundle, init: ImportInit, newBytes: number): void {
    if (init.check) return;
    this.#counts.imported++;
    this.#counts.importedBytes += newBytes;
    this.#c.words.prune();
    const { created } = statement;
    if (word === 'hub' && created !== undefined) this.#c.trust?.learnTime(created);
    const names = statement.images.map(nameOf);
    const [first = ''] = names;
    const key = names.length === 1 ? first : `${first} and ${names.length - 1} more`;
    this.#c.events.note({ kind: 'bundle-imported', key, detail: `${formatBytes(newBytes)} new` });
    this.#c.log.info({ images: names, word, newBytes }, 'a bundle was imported');
  }
}
