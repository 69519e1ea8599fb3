import { type Digest, digestOf } from '../ids.ts';
import { ByteReader } from './byte-reader.ts';
import { MAX_STATEMENT_BYTES } from './constants.ts';
import { blobPath, fixedFiles, STATEMENT_FILE } from './layout-files.ts';
import { bundleRefused } from './refusal.ts';
import type { BundleBlob, Statement } from './statement.ts';
import { readStatementFile, type StatementFile } from './statement-file.ts';
import { BLOCK_BYTES, paddingOf, sizeIn, TAR_END, tarHeader } from './tar.ts';

/** A signed statement has its signature before it. */
const MAX_FILE_BYTES = MAX_STATEMENT_BYTES + 64 * 1024;

/** Takes the bytes of one blob, in the lengths that it wants. */
export type TakeBytes = (target: Uint8Array) => Promise<void>;

/**
 * A bundle from its first byte to its last, in one pass, so that a pipe and a device do. Each step has to be taken once, in
 * order: statement, manifests, every blob, end. @throws TidepoolError BUNDLE_REFUSED from each of them
 */
export class BundleReader {
  readonly #bytes: ByteReader;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#bytes = new ByteReader(source);
  }

  /** Bytes taken so far. */
  get read(): number {
    return this.#bytes.read;
  }

  async statement(): Promise<StatementFile> {
    const header = await this.#bytes.exactly(BLOCK_BYTES);
    const size = sizeIn(header);
    if (size === undefined || !tarHeader(STATEMENT_FILE, size).equals(header)) {
      throw bundleRefused('it does not begin with a statement: tidepool-hub bundle create writes such files');
    }
    if (size > MAX_FILE_BYTES) throw bundleRefused('its statement is too long');
    const bytes = await this.#bytes.exactly(size);
    await this.#padding(size);
    return readStatementFile(bytes);
  }

  /** The manifests by digest, each checked; an index.json that is not the statement's is refused on the way. */
  async manifests(said: Statement): Promise<Map<Digest, Buffer>> {
    for (const { name, bytes } of fixedFiles(said)) {
      const found = await this.#file(name, bytes.length);
      if (!found.equals(bytes)) throw bundleRefused(`its ${name} is not what its statement says`);
    }
    const found = new Map<Digest, Buffer>();
    for (const { digest, size } of said.manifests) {
      const bytes = await this.#file(blobPath(digest), size);
      if (digestOf(bytes) !== digest) throw bundleRefused(`the bytes of manifest ${digest} are others`);
      found.set(digest, bytes);
    }
    return found;
  }

  /** Has `take` read all bytes of a blob; whose digest it checks is its own affair. */
  async blob({ digest, size }: BundleBlob, take: (read: TakeBytes) => Promise<void>): Promise<void> {
    await this.#header(blobPath(digest), size);
    const before = this.#bytes.read;
    await take((target) => this.#bytes.into(target));
    if (this.#bytes.read - before !== size) throw bundleRefused(`not all of ${digest} was read`);
    await this.#padding(size);
  }

  /** What stands behind the end, on a device that is larger than the bundle, is not looked at. */
  async end(): Promise<void> {
    const end = await this.#bytes.exactly(TAR_END.length);
    if (!end.equals(TAR_END)) throw bundleRefused('there is more in it than its statement says');
  }

  async close(): Promise<void> {
    await this.#bytes.close();
  }

  async #file(name: string, size: number): Promise<Buffer> {
    await this.#header(name, size);
    const bytes = await this.#bytes.exactly(size);
    await this.#padding(size);
    return bytes;
  }

  async #header(name: string, size: number): Promise<void> {
    const header = await this.#bytes.exactly(BLOCK_BYTES);
    if (!tarHeader(name, size).equals(header)) {
      throw bundleRefused(
        `${name} with ${size} bytes should come, as its statement says, and something else does`,
      );
    }
  }

  async #padding(size: number): Promise<void> {
    const padding = await this.#bytes.exactly(paddingOf(size));
    if (padding.some((byte) => byte !== 0)) throw bundleRefused('there are bytes between its files');
  }
}
