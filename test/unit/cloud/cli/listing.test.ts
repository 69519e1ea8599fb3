import { describe, expect, it } from 'vitest';
import { type Column, formatTable } from '../../../../cloud/cli/columns.ts';
import { type Listing, runListing } from '../../../../cloud/cli/listing.ts';
import { nodeColumns } from '../../../../cloud/cli/tables.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import type { NodeView } from '../../../../shared/wire/api.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

interface Row {
  readonly name: string;
  readonly size: number;
  readonly seen: number;
}
const columns: readonly Column<Row>[] = [
  { head: 'NAME', cell: ({ name }) => name },
  { head: 'SIZE', cell: ({ size }) => String(size), right: true, drop: 1 },
  { head: 'SEEN', cell: ({ seen }) => `${seen}s ago`, drop: 2, restless: true },
];

const node = (name: string, more: Partial<NodeView> = {}): NodeView => ({
  node: name,
  pool: 'alpha',
  online: true,
  address: '10.0.0.7:6181',
  version: '0.1.0',
  platform: 'linux/amd64',
  tuningHash: 'abc',
  tuned: true,
  lastSeen: 0,
  counters: null,
  runtime: null,
  ...more,
});

describe('formatTable', () => {
  const rows = [
    { name: 'a', size: 5, seen: 1 },
    { name: 'a-long-name', size: 12345, seen: 2 },
  ];

  it('aligns, numbers to the right', () => {
    expect(formatTable(columns, rows, undefined)).toEqual([
      'NAME          SIZE  SEEN',
      'a                5  1s ago',
      'a-long-name  12345  2s ago',
    ]);
  });

  it('leaves columns out where the terminal is narrow, then cuts the longest', () => {
    expect(formatTable(columns, rows, 20)[2]).toBe('a-long-name  12345');
    expect(formatTable(columns, rows, 12)[2]).toBe('a-long-name');
    expect(formatTable(columns, rows, 9)[2]).toBe('a-long-n…');
  });

  it('shows of nodes what matters, on 80 columns', () => {
    const nodes = [
      node('edge-1'),
      node('edge-2', { online: false, lastSeen: 0, tuned: false }),
      node('edge-3', { online: false, lastSeen: null, tuned: null, version: null }),
    ];
    const lines = formatTable(nodeColumns(7_200_000), nodes, 80);
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80);
    expect(lines[0]).toMatch(/^NODE +POOL +STATE +.*WAN +PEERS +TUNING +MIRROR/);
    expect(lines[1]).toMatch(/^edge-1 +alpha +online .* yes +unknown/);
    expect(lines[2]).toMatch(/^edge-2 +alpha +offline 2h .* stale/);
    expect(lines[3]).toMatch(/^edge-3 +alpha +never seen/);
  });
});

describe('runListing', () => {
  const world = (isTTY: boolean, answers: readonly (readonly Row[] | Error)[]) => {
    const stop = new AbortController();
    const clock = new ManualClock();
    let out = '';
    let err = '';
    let asked = 0;
    const listing: Listing<Row> = {
      read: async () => {
        const answer = answers[asked++];
        if (answer === undefined) {
          stop.abort(new Error('ended by SIGINT'));
          stop.signal.throwIfAborted();
        }
        if (answer instanceof Error) throw answer;
        return answer ?? [];
      },
      columns: () => columns,
      key: ({ name }) => name,
      empty: 'nothing',
      remarks: () => ['a remark'],
    };
    const io = {
      stdout: { write: (text: string) => (out += text), isTTY, columns: 40, rows: 4 },
      stderr: { write: (text: string) => (err += text) },
      signal: stop.signal,
    };
    const run = async (flags: { json?: boolean; watch?: boolean }): Promise<number> => {
      const done = runListing({ clock, io }, listing, { json: false, watch: false, wide: false, ...flags });
      let over = false;
      const end = (): void => {
        over = true;
      };
      done.then(end, end);
      while (!over) {
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(1_000);
      }
      return await done;
    };
    return { run, out: () => out, err: () => err };
  };
  const row = (name: string, size: number, seen = 0): Row => ({ name, size, seen });

  it('shows a list once, as table or JSON', async () => {
    const table = world(false, [[row('a', 1)]]);
    expect(await table.run({})).toBe(0);
    expect(table.out()).toBe('NAME  SIZE  SEEN\na        1  0s ago\na remark\n');
    const json = world(true, [[row('a', 1)]]);
    await json.run({ json: true });
    expect(json.out()).toBe('[{"name":"a","size":1,"seen":0}]\n');
    const empty = world(true, [[]]);
    await empty.run({});
    expect(empty.out()).toBe('nothing\n');
  });

  it('watched without a terminal, it tells what has changed, and ends with 0', async () => {
    const gone = new TidepoolError('HUB_UNREACHABLE', 'no answer from the hub');
    const w = world(false, [
      [row('a', 1), row('b', 2)],
      [row('a', 1, 9), row('b', 3, 9)],
      gone,
      gone,
      [row('b', 3), row('c', 4)],
    ]);
    expect(await w.run({ watch: true })).toBe(0);
    expect(w.out().split('\n').slice(4)).toEqual(['b        3  9s ago', 'c        4  0s ago', 'a  gone', '']);
    expect(w.err()).toBe('no answer from the hub; trying on\nthe hub answers again\n');
  });

  it('watched on a terminal, it draws over itself and never beyond the screen', async () => {
    const many = Array.from({ length: 9 }, (_, i) => row(`n${i}`, i));
    const w = world(true, [many, [row('a', 1)]]);
    expect(await w.run({ watch: true })).toBe(0);
    expect(w.out()).toContain('… and 9 more lines');
    expect(w.out()).toContain('\u001b[3A\rNAME');
  });

  it('watched as JSON, it writes a line where something changed', async () => {
    const w = world(false, [[row('a', 1)], [row('a', 1)], [row('a', 2)]]);
    expect(await w.run({ watch: true, json: true })).toBe(0);
    expect(w.out().trim().split('\n')).toHaveLength(2);
  });

  it('fails at once when there never was a hub', async () => {
    const w = world(false, [new TidepoolError('HUB_UNREACHABLE', 'no answer')]);
    await expect(w.run({ watch: true })).rejects.toThrow('no answer');
  });
});
