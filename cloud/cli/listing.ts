import { type Clock, delay } from '../../shared/clock.ts';
import { isTidepoolError } from '../../shared/errors.ts';
import { type Column, formatTable, restfulCells } from './columns.ts';
import { type CliIo, EXIT } from './io.ts';
import { LiveArea } from './progress.ts';

const WATCH_MS = 1_000;
/** Rows of a terminal that does not say. */
const DEFAULT_ROWS = 24;

export interface ListFlags {
  readonly json: boolean;
  readonly watch: boolean;
  /** All columns, however narrow the terminal is. */
  readonly wide: boolean;
}

/** One kind of thing as a list: a table for people, JSON for scripts. */
export interface Listing<T> {
  read(): Promise<readonly T[]>;
  /** Those of now: cells may tell how long ago something was. */
  columns(): readonly Column<T>[];
  key(row: T): string;
  /** In place of an empty table. */
  readonly empty: string;
  /** Lines below the table. */
  remarks?(rows: readonly T[]): readonly string[];
  /** Instead of the table while somebody watches on a terminal. */
  live?(rows: readonly T[], columns: number): readonly string[];
}

/** Shows a list once, or for as long as somebody watches; the answer is the exit code. */
export async function runListing<T>(
  { clock, io }: { readonly clock: Clock; readonly io: CliIo },
  listing: Listing<T>,
  flags: ListFlags,
): Promise<number> {
  if (!flags.watch) {
    const rows = await listing.read();
    io.stdout.write(
      flags.json ? `${JSON.stringify(rows)}\n` : `${linesOf(io, listing, rows, flags).join('\n')}\n`,
    );
    return EXIT.ok;
  }
  const show = flags.json ? showJson<T>(io) : showTable(io, listing, flags);
  let missing = false;
  for (let first = true; ; first = false) {
    try {
      show(await listing.read());
      if (missing) io.stderr.write('the hub answers again\n');
      missing = false;
    } catch (error) {
      // Ctrl-C is how a watch ends.
      if (io.signal.aborted) return EXIT.ok;
      // The hub may be restarted while somebody watches.
      if (first || !isTidepoolError(error, 'HUB_UNREACHABLE')) throw error;
      if (!missing) io.stderr.write(`${error.message}; trying on\n`);
      missing = true;
    }
    try {
      await delay(clock, WATCH_MS, io.signal);
    } catch (error) {
      if (io.signal.aborted) return EXIT.ok;
      throw error;
    }
  }
}

function linesOf<T>(
  io: CliIo,
  listing: Listing<T>,
  rows: readonly T[],
  { wide }: Pick<ListFlags, 'wide'>,
): readonly string[] {
  if (rows.length === 0) return [listing.empty];
  const width = wide || io.stdout.isTTY !== true ? undefined : io.stdout.columns;
  return [...formatTable(listing.columns(), rows, width), ...(listing.remarks?.(rows) ?? [])];
}

/** A line an answer, where it is another one. */
function showJson<T>(io: CliIo): (rows: readonly T[]) => void {
  let last = '';
  return (rows) => {
    const text = JSON.stringify(rows);
    if (text !== last) io.stdout.write(`${text}\n`);
    last = text;
  };
}

function showTable<T>(io: CliIo, listing: Listing<T>, flags: ListFlags): (rows: readonly T[]) => void {
  if (io.stdout.isTTY === true) {
    const area = new LiveArea((text) => io.stdout.write(text));
    return (rows) => {
      const columns = io.stdout.columns ?? 80;
      const room = Math.max(2, (io.stdout.rows ?? DEFAULT_ROWS) - 1);
      const lines = listing.live?.(rows, columns) ?? linesOf(io, listing, rows, flags);
      // A line that wraps, or one below the screen, would be drawn over in the wrong place.
      area.draw(
        (lines.length <= room
          ? lines
          : [...lines.slice(0, room - 1), `… and ${lines.length - room + 1} more lines`]
        ).map((line) => line.slice(0, columns - 1)),
      );
    };
  }
  return showChanges(io, listing);
}

/** Without a terminal: the table once, then each row that has changed. */
function showChanges<T>(io: CliIo, listing: Listing<T>): (rows: readonly T[]) => void {
  let told: ReadonlyMap<string, string> | undefined;
  return (rows) => {
    const columns = listing.columns();
    const now = new Map(rows.map((row) => [listing.key(row), restfulCells(columns, row)]));
    const before = told;
    told = now;
    if (before === undefined) {
      io.stdout.write(`${linesOf(io, listing, rows, { wide: true }).join('\n')}\n`);
      return;
    }
    const changed = rows.filter((row) => before.get(listing.key(row)) !== now.get(listing.key(row)));
    // As wide as all rows take, so that lines of different moments stand below each other.
    const lines = formatTable(columns, rows, undefined).slice(1);
    for (const row of changed) io.stdout.write(`${lines[rows.indexOf(row)]}\n`);
    for (const key of before.keys()) if (!now.has(key)) io.stdout.write(`${key}  gone\n`);
  };
}
