/** Tables that fit the terminal they are shown on. */

export interface Column<T> {
  readonly head: string;
  readonly cell: (row: T) => string;
  /** Numbers read better that way. */
  readonly right?: true;
  /** On a narrow terminal the highest go first; columns without one always stay. */
  readonly drop?: number;
  /** Changes all the time: no reason to tell the row again. */
  readonly restless?: true;
}

const GAP = '  ';
/** No cell is cut shorter than that. */
const MIN_CELL = 8;

/**
 * One line a row, below a line of heads. Where they would be wider than `width`, columns are left out by their `drop`,
 * and then the longest cells are cut.
 * @param width in characters; undefined: as wide as it takes
 */
export function formatTable<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  width: number | undefined,
): readonly string[] {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  let shown = columns.map((column, index) => ({
    ...column,
    index,
    wide: Math.max(column.head.length, ...cells.map((row) => row[index]?.length ?? 0)),
  }));
  const total = (): number =>
    shown.reduce((sum, { wide }) => sum + wide, 0) + GAP.length * (shown.length - 1);
  const limit = width ?? Number.POSITIVE_INFINITY;
  while (total() > limit) {
    const last = Math.max(...shown.map(({ drop = 0 }) => drop));
    if (last === 0) break;
    shown = shown.filter(({ drop }) => drop !== last);
  }
  while (total() > limit) {
    const longest = shown.reduce((a, b) => (b.wide > a.wide ? b : a));
    if (longest.wide <= MIN_CELL) break;
    const cut = Math.max(MIN_CELL, longest.wide - (total() - limit));
    shown = shown.map((each) => (each === longest ? { ...each, wide: cut } : each));
  }
  const line = (texts: readonly string[]): string =>
    shown
      .map(({ wide, right, index }) => {
        const text = cutTo(texts[index] ?? '', wide);
        return right === true ? text.padStart(wide) : text.padEnd(wide);
      })
      .join(GAP)
      .trimEnd();
  return [line(columns.map(({ head }) => head)), ...cells.map(line)];
}

/** What of a row is worth telling when it changes. */
export function restfulCells<T>(columns: readonly Column<T>[], row: T): string {
  return JSON.stringify(columns.filter(({ restless }) => restless !== true).map(({ cell }) => cell(row)));
}

function cutTo(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}
