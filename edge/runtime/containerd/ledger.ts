import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import { quote } from '../../../shared/ids.ts';
import { type FileState, readState, removeFile, sha256, writeAtomically } from './atomic-file.ts';

/** Beside the registries' directories; no registry can have this name. */
const DIRECTORY = '.tidepool';
const LEDGER = 'ledger.json';
/** What the agent reads; see `originsFile` of its settings. */
const ORIGINS = 'origins.json';

const entry = z.strictObject({
  /** Name of the registry's directory. */
  directory: z.string().regex(/^[^/]+$/),
  /** Hex sha256 of the hosts.toml that was written. */
  written: z.string(),
  /** The directory itself was made too. */
  madeDirectory: z.boolean(),
  /** What `configure` was asked for, so that the file can be written again; absent in ledgers of before it was kept. */
  configured: z
    .strictObject({
      mirror: z.string(),
      server: z.string().optional(),
      fallback: z.boolean(),
      /** The pool's tuning does not concern it. */
      pinned: z.boolean().optional(),
    })
    .optional(),
  /** What stood there before; absent where nothing did. Its bytes are in the backup file. */
  before: z
    .strictObject({
      backup: z.string().regex(/^[^/]+$/),
      sha256: z.string(),
      mode: z.number().int(),
      uid: z.number().int(),
      gid: z.number().int(),
    })
    .optional(),
});
export type LedgerEntry = z.infer<typeof entry>;

const ledgerFile = z.strictObject({
  version: z.literal(1),
  /** The directory of all registries was made too. */
  madeRoot: z.boolean(),
  /** What the pool's tuning says of the way past the mirror; absent where it leaves that to `configure`. */
  override: z.boolean().optional(),
  entries: z.array(entry),
});

/** What was written into a certs.d, and copies of what stood there before. Kept in the same place, so that it survives as long. */
export class Ledger {
  readonly #directory: string;
  /** There is one on the disk. */
  readonly found: boolean;
  #madeRoot = false;
  #override: boolean | undefined;
  #entries: LedgerEntry[] = [];

  /** @throws TidepoolError INVALID_CONFIG for a ledger that cannot be read: guessing would lose a backup */
  constructor(root: string) {
    this.#directory = join(root, DIRECTORY);
    const path = join(this.#directory, LEDGER);
    const state = readState(path);
    this.found = state !== undefined;
    if (state === undefined) return;
    try {
      const saved = ledgerFile.parse(JSON.parse(state.bytes.toString('utf8')));
      this.#madeRoot = saved.madeRoot;
      this.#override = saved.override;
      this.#entries = saved.entries;
    } catch (error) {
      throw new TidepoolError(
        'INVALID_CONFIG',
        `${quote(path)} is not a ledger: ${describeError(error)}; the copies of what was are beside it`,
        { cause: error },
      );
    }
  }

  get entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  get madeRoot(): boolean {
    return this.#madeRoot;
  }

  /** Stands over what each entry was configured with. */
  get override(): boolean | undefined {
    return this.#override;
  }

  get(directory: string): LedgerEntry | undefined {
    return this.#entries.find((known) => known.directory === directory);
  }

  rootMade(): void {
    this.#madeRoot = true;
  }

  /** Copies what stands at a place, durably, before anything is written there. */
  keep(directory: string, state: FileState): NonNullable<LedgerEntry['before']> {
    this.#makeDirectory();
    const digest = sha256(state.bytes);
    const backup = `${directory}.${digest.slice(0, 12)}.hosts.toml`;
    const { mode, uid, gid } = state;
    writeAtomically(join(this.#directory, backup), state.bytes);
    return { backup, sha256: digest, mode, uid, gid };
  }

  /** @throws TidepoolError STORE_CORRUPT when the copy is not what was copied */
  backup(before: NonNullable<LedgerEntry['before']>): Buffer {
    const path = join(this.#directory, before.backup);
    const bytes = readFileSync(path);
    if (sha256(bytes) !== before.sha256) {
      throw new TidepoolError(
        'STORE_CORRUPT',
        `the copy ${quote(path)} has been changed; it is not put back`,
      );
    }
    return bytes;
  }

  put(next: LedgerEntry): void {
    const old = this.get(next.directory);
    this.#entries = [...this.#entries.filter((known) => known.directory !== next.directory), next];
    this.#save();
    if (old?.before !== undefined && old.before.backup !== next.before?.backup) this.#drop(old.before.backup);
  }

  /** Notes an override and what is about to be written by it, in one go; what was before all of them stays. */
  setOverride(override: boolean | undefined, written: ReadonlyMap<string, string>): void {
    this.#override = override;
    this.#entries = this.#entries.map((known) => ({
      ...known,
      written: written.get(known.directory) ?? known.written,
    }));
    this.#save();
  }

  remove(directory: string): void {
    const old = this.get(directory);
    this.#entries = this.#entries.filter((known) => known.directory !== directory);
    this.#save();
    if (old?.before !== undefined) this.#drop(old.before.backup);
  }

  /** The answer is the file's path. */
  writeOrigins(origins: unknown): string {
    this.#makeDirectory();
    const path = join(this.#directory, ORIGINS);
    const bytes = Buffer.from(`${JSON.stringify(origins, null, 2)}\n`);
    if (readState(path)?.bytes.equals(bytes) !== true) writeAtomically(path, bytes);
    return path;
  }

  removeOrigins(): void {
    removeFile(join(this.#directory, ORIGINS));
    if (!this.found && existsSync(this.#directory) && readdirSync(this.#directory).length === 0) {
      rmdirSync(this.#directory);
    }
  }

  /** Once nothing is left to put back. */
  delete(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #drop(backup: string): void {
    removeFile(join(this.#directory, backup));
  }

  #makeDirectory(): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o755 });
  }

  #save(): void {
    this.#makeDirectory();
    const saved = {
      version: 1,
      madeRoot: this.#madeRoot,
      ...(this.#override === undefined ? {} : { override: this.#override }),
      entries: this.#entries,
    };
    writeAtomically(join(this.#directory, LEDGER), Buffer.from(`${JSON.stringify(saved, null, 2)}\n`));
  }
}
