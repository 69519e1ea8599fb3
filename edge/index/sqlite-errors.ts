import Database from 'better-sqlite3';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/** True when SQLite says that the file is no database, or a damaged one. */
export function isCorruption(error: unknown): boolean {
  return (
    error instanceof Database.SqliteError &&
    (error.code === 'SQLITE_NOTADB' || error.code.startsWith('SQLITE_CORRUPT'))
  );
}

/** Runs a statement that does `what`. */
export type Run = <T>(what: string, statement: () => T) => T;

/** {@link run}, and tells the first time that the database turns out to be damaged. */
export function watchedRun(onDamage: (error: TidepoolError) => void): Run {
  let told = false;
  return (what, statement) => {
    try {
      return run(what, statement);
    } catch (error) {
      if (!told && error instanceof TidepoolError && isCorruption(error.cause)) {
        told = true;
        onDamage(error);
      }
      throw error;
    }
  };
}

/**
 * Runs a statement, with SQLite's failures under our codes.
 * @throws TidepoolError STORE_FULL when the disk is full, STORE_CORRUPT for any other failure of the database
 */
export function run<T>(what: string, statement: () => T): T {
  try {
    return statement();
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    const code = error.code === 'SQLITE_FULL' ? 'STORE_FULL' : 'STORE_CORRUPT';
    throw new TidepoolError(code, `the index cannot ${what}: ${describeError(error)}`, { cause: error });
  }
}
