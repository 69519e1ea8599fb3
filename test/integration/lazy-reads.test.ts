import { afterEach, beforeEach, expect, it } from 'vitest';
import { layoutOf, piecesOfRange } from '../../shared/pieces.ts';
import { AgentPool } from '../support/agent-pool.ts';
import { patternBytes } from '../support/mirror-fixture.ts';

const SIZE = 24 * 1024 * 1024 + 777;
const CHUNK = 50_000;
const FOOTER = 51;
const MANIFEST_BYTES = 20_000;

let pool: AgentPool;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
});
afterEach(() => pool.close());

/** A layer that nobody holds, as a lazy-loading snapshotter finds it. */
async function coldLayer() {
  const content = patternBytes(SIZE);
  const image = await pool.image([{ content }]);
  const layer = image.blobs.find(({ size }) => size === SIZE);
  if (layer === undefined) throw new Error('no layer');
  return { content, digest: layer.digest };
}

/** Pieces that some ranges (end exclusive) lie in, in bytes. */
function bytesTouched(ranges: readonly (readonly [number, number])[]): number {
  const layout = layoutOf(SIZE);
  const pieces = new Set<number>();
  for (const [start, end] of ranges) {
    const { first, last } = piecesOfRange(layout, start, end);
    for (let piece = first; piece <= last; piece++) pieces.add(piece);
  }
  return pieces.size * layout.pieceSize;
}

async function part(n: number, path: string, range: string): Promise<{ status: number; body: Buffer }> {
  const answer = await pool.mirror(n, path, {
    headers: { range: `bytes=${range}`, 'accept-encoding': 'identity' },
  });
  return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
}

/** Places all over the blob, the same ones each time. */
function scattered(count: number): [number, number][] {
  return Array.from({ length: count }, (_, index) => {
    const start = 4_000_000 + ((index * 7_919_000) % 9_000_000);
    return [start, start + CHUNK];
  });
}

it('a lazy snapshotter gets the right bytes of a cold layer, for the pieces it reads and no others', async () => {
  const { content, digest } = await coldLayer();
  await pool.startAll([1, 2]);
  const path = `blobs/${digest}`;
  const wanted: [number, number][] = [
    [0, 2],
    [SIZE - FOOTER, SIZE],
    [SIZE - 300_000, SIZE - FOOTER],
    ...scattered(8),
  ];
  // Is it there, how long is it, where is its table of contents, and what does that say?
  expect((await pool.mirror(1, 'manifests/v1')).status).toBe(200);
  expect(await part(1, path, '0-1')).toMatchObject({ status: 206, body: content.subarray(0, 2) });
  const head = await pool.mirror(1, path, { method: 'HEAD' });
  expect(head.headers.get('content-length')).toBe(String(SIZE));
  const footer = await part(1, path, `-${FOOTER}`);
  expect(footer.body.equals(content.subarray(SIZE - FOOTER))).toBe(true);
  const toc = await part(1, path, `${SIZE - 300_000}-${SIZE - FOOTER - 1}`);
  expect(toc.body.equals(content.subarray(SIZE - 300_000, SIZE - FOOTER))).toBe(true);
  for (const [start, end] of scattered(8)) {
    const { status, body } = await part(1, path, `${start}-${end - 1}`);
    expect([status, body.equals(content.subarray(start, end))]).toEqual([206, true]);
  }
  const many = await part(
    1,
    path,
    scattered(8)
      .map(([start, end]) => `${start}-${end - 1}`)
      .join(','),
  );
  expect(many.status).toBe(206);
  for (const [start, end] of scattered(8)) {
    expect(many.body.includes(content.subarray(start, end))).toBe(true);
  }
  expect(await pool.wanBytes([1, 2])).toBeLessThanOrEqual(bytesTouched(wanted) + MANIFEST_BYTES);
  expect(bytesTouched(wanted)).toBeLessThan(SIZE / 2);

  // The same reads on the neighbour cost the uplink nothing.
  const before = await pool.wanBytes([1, 2]);
  for (const [start, end] of wanted) {
    const { body } = await part(2, path, `${start}-${end - 1}`);
    expect(body.equals(content.subarray(start, end))).toBe(true);
  }
  expect((await pool.wanBytes([1, 2])) - before).toBeLessThan(MANIFEST_BYTES);
});

it('ranges that are given up by the hundred leave nothing behind', async () => {
  const { content, digest } = await coldLayer();
  await pool.startAll([1, 2]);
  const path = `blobs/${digest}`;
  expect((await pool.mirror(1, 'manifests/v1')).status).toBe(200);
  const aborted = scattered(300);
  const outcomes = await Promise.all(
    aborted.map(async ([start, end], index) => {
      const leaving = new AbortController();
      const asked = pool.mirror(1, path, {
        // Half of them are open ended, and left when the first bytes come; the others are left at once.
        headers: { range: index % 2 === 0 ? `bytes=${start}-` : `bytes=${start}-${end - 1}` },
        signal: leaving.signal,
      });
      if (index % 2 === 1) setImmediate(() => leaving.abort());
      try {
        const answer = await asked;
        await answer.body?.getReader().read();
        leaving.abort();
        return answer.status;
      } catch {
        return 'left';
      }
    }),
  );
  expect(outcomes.filter((outcome) => outcome !== 206 && outcome !== 'left')).toEqual([]);
  // There are 64 places for bodies: were some lost, so many readers would not get through any more.
  const after = scattered(80);
  const parts = await Promise.all(after.map(([start, end]) => part(1, path, `${start}-${end - 1}`)));
  for (const [index, [start, end]] of after.entries()) {
    expect(parts[index]?.body.equals(content.subarray(start, end))).toBe(true);
  }
  expect(await pool.blob(1, digest)).toBe(digest);
  expect(await pool.wanBytes([1, 2])).toBeLessThan(SIZE * 1.1);
});
