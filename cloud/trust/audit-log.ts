import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { AuditEntryView } from '../../shared/wire/api.ts';

const MAX_FILE_BYTES = 8 * 1024 * 1024;
/** Files kept, the one that is written among them. */
const KEPT_FILES = 5;
const MAX_TEXT = 300;
/** Lines that wait for the disk; a disk that hangs must not fill the memory. */
const MAX_WAITING = 1_000;
const MAX_READ = 10_000;

const line = z.object({
  id: z.string(),
  at: z.string(),
  who: z.string(),
  from: z.string(),
  action: z.string(),
  object: z.string(),
  outcome: z.enum(['begun', 'done', 'refused', 'failed']),
  status: z.number().optional(),
});

export type AuditFacts = Pick<AuditEntryView, 'who' | 'from' | 'action' | 'object'>;
export type AuditEnd = Pick<AuditEntryView, 'outcome' | 'status'>;

/** A change that is under way. */
export interface AuditedChange {
  readonly facts: AuditFacts;
  /** Never rejects: what was done cannot be refused any more; that it could not be written is logged. */
  end(end: AuditEnd, object?: string): Promise<void>;
}

export interface AuditLogInit {
  readonly file: string;
  readonly maxFileBytes?: number;
}

/**
 * Who changed what, and from where: JSON lines that are only ever added to. A change has a line before it begins and one
 * when it has ended, so that none can happen without a trace; old files go when there are too many.
 */
export class AuditLog implements Startable {
  readonly name = 'audit log';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #file: string;
  readonly #maxBytes: number;
  #handle: FileHandle | undefined;
  #bytes = 0;
  #waiting = 0;
  /** The last write broke off, so its line may have no end. */
  #torn = false;
  /** Lines for the next write: many that come at once reach the disk together. */
  #lines: string[] = [];
  #next: Promise<void> | undefined;
  #writes: Promise<unknown> = Promise.resolve();

  constructor(components: { readonly clock: Clock; readonly log: Logger }, init: AuditLogInit) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#file = init.file;
    this.#maxBytes = init.maxFileBytes ?? MAX_FILE_BYTES;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await this.#next?.catch(() => undefined);
    await this.#writes;
    await this.#handle?.close();
    this.#handle = undefined;
  }

  /**
   * Before the change; it is durable when it resolves.
   * @throws TidepoolError STORE_FULL when it cannot be written: then the change must not happen
   */
  async begin(facts: AuditFacts): Promise<AuditedChange> {
    const id = randomBytes(9).toString('base64url');
    await this.#append(id, facts, { outcome: 'begun' });
    return {
      facts,
      end: async (end, object = facts.object) => {
        try {
          await this.#append(id, { ...facts, object }, end);
        } catch (error) {
          this.#log.error(
            { err: error, id, ...end },
            'the end of a change could not be written to the audit log',
          );
        }
      },
    };
  }

  /** A change that is through, in one line; its answer must not go out when this rejects. @throws as {@link begin} */
  async note(facts: AuditFacts, end: AuditEnd): Promise<void> {
    await this.#append(randomBytes(9).toString('base64url'), facts, end);
  }

  /** Changes from a moment on, the oldest first; of many the newest. */
  async read(
    init: { readonly since?: number; readonly limit?: number } = {},
  ): Promise<readonly AuditEntryView[]> {
    const { since = Number.NEGATIVE_INFINITY } = init;
    const limit = Math.min(init.limit ?? 1_000, MAX_READ);
    await this.#next?.catch(() => undefined);
    await this.#writes;
    const found = new Map<string, AuditEntryView>();
    for (let age = KEPT_FILES - 1; age >= 0; age--) {
      for await (const entry of linesOf(this.#nameOf(age))) {
        if (entry.at < since) continue;
        // The second line of a change says more than the first, and keeps its place.
        found.set(entry.id, { ...entry, at: found.get(entry.id)?.at ?? entry.at });
        if (found.size > limit) forgetOldest(found);
      }
    }
    return [...found.values()];
  }

  #append(id: string, facts: AuditFacts, end: AuditEnd): Promise<void> {
    if (this.#waiting >= MAX_WAITING) return Promise.reject(full('too many changes wait for the disk'));
    const written = {
      at: new Date(this.#clock.now()).toISOString(),
      id,
      who: facts.who.slice(0, MAX_TEXT),
      from: facts.from.slice(0, MAX_TEXT),
      action: facts.action.slice(0, MAX_TEXT),
      object: facts.object.slice(0, MAX_TEXT),
      ...end,
    };
    this.#waiting++;
    this.#lines.push(`${JSON.stringify(written)}\n`);
    return this.#flush()
      .finally(() => this.#waiting--)
      .then(() => {
        if (end.outcome !== 'begun') this.#log.info({ audit: written }, 'a change by way of the API');
      });
  }

  #flush(): Promise<void> {
    this.#next ??= this.#writes.then(() => {
      this.#next = undefined;
      const writing = this.#write(this.#lines.splice(0).join(''));
      this.#writes = writing.catch(() => undefined);
      return writing;
    });
    return this.#next;
  }

  async #write(text: string): Promise<void> {
    try {
      const handle = await this.#open(Buffer.byteLength(text));
      await handle.appendFile(this.#torn ? `\n${text}` : text);
      this.#torn = false;
      await handle.datasync();
      this.#bytes += Buffer.byteLength(text);
    } catch (error) {
      this.#torn = true;
      // Opened anew the next time: the disk may have been replaced under it.
      await this.#handle?.close().catch(() => undefined);
      this.#handle = undefined;
      throw full(describeError(error), error);
    }
  }

  async #open(more: number): Promise<FileHandle> {
    if (this.#handle !== undefined && this.#bytes + more > this.#maxBytes) {
      await this.#handle.close();
      this.#handle = undefined;
      await rm(this.#nameOf(KEPT_FILES - 1), { force: true });
      for (let age = KEPT_FILES - 2; age >= 0; age--) {
        await rename(this.#nameOf(age), this.#nameOf(age + 1)).catch(ignoreMissing);
      }
    }
    if (this.#handle === undefined) {
      await mkdir(path.dirname(this.#file), { recursive: true });
      this.#handle = await open(this.#file, 'a', 0o600);
      this.#bytes = (await this.#handle.stat()).size;
      // A crash may have cut the last line short.
      if (this.#bytes > 0) this.#torn = true;
    }
    return this.#handle;
  }

  #nameOf(age: number): string {
    return age === 0 ? this.#file : `${this.#file}.${age}`;
  }
}

function forgetOldest(entries: Map<string, AuditEntryView>): void {
  for (const id of entries.keys()) {
    entries.delete(id);
    return;
  }
}

async function* linesOf(file: string): AsyncGenerator<AuditEntryView> {
  const stream = createReadStream(file, 'utf8');
  try {
    for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      const entry = parseLine(text);
      if (entry !== undefined) yield entry;
    }
  } catch (error) {
    ignoreMissing(error);
  } finally {
    stream.destroy();
  }
}

/** Undefined for a line that a crash has cut short. */
function parseLine(text: string): AuditEntryView | undefined {
  if (text === '') return undefined;
  try {
    const { at, status, ...rest } = line.parse(JSON.parse(text));
    return { ...rest, at: Date.parse(at), ...(status === undefined ? {} : { status }) };
  } catch {
    return undefined;
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}

function full(why: string, cause?: unknown): TidepoolError {
  return new TidepoolError(
    'STORE_FULL',
    `nothing is changed, because the audit log cannot be written: ${why}`,
    { cause },
  );
}
