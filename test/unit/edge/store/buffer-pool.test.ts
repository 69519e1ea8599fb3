import { describe, expect, it } from 'vitest';
import { BufferPool } from '../../../../edge/store/buffer-pool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Whether a promise has settled by now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => {
      done = true;
    },
    () => {
      done = true;
    },
  );
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

describe('BufferPool', () => {
  it('uses memory again', async () => {
    const pool = new BufferPool({ limitBytes: 4 * MIB });
    const first = await pool.take(MIB);
    pool.give(first);
    expect(await pool.take(MIB - 5)).toBe(first);
    expect(pool.allocated).toBe(MIB);
  });

  it('takes the smallest class that holds the length', async () => {
    const pool = new BufferPool({ limitBytes: 64 * MIB });
    const lengths = [1, 32 * KIB, 32 * KIB + 1, 256 * KIB, MIB, MIB + 1, 8 * MIB];
    const sizes: number[] = [];
    for (const length of lengths) sizes.push((await pool.take(length)).length / KIB);
    expect(sizes).toEqual([32, 32, 256, 256, 1024, 4096, 8192]);
    expect(() => pool.take(8 * MIB + 1)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('stays within its limit, and serves in order of arrival', async () => {
    const pool = new BufferPool({ limitBytes: 2 * MIB });
    const a = await pool.take(MIB);
    const b = await pool.take(MIB);
    const order: string[] = [];
    const third = pool.take(MIB).then((memory) => {
      order.push('third');
      return memory;
    });
    const fourth = pool.take(32 * KIB).then((memory) => {
      order.push('fourth');
      return memory;
    });
    expect(await settled(third)).toBe(false);
    pool.give(a);
    expect(await third).toBe(a);
    expect(await settled(fourth)).toBe(false);
    pool.give(b);
    await fourth;
    expect(order).toEqual(['third', 'fourth']);
    expect(pool.allocated).toBeLessThanOrEqual(2 * MIB);
  });

  it('lets go of whoever aborts, and of the line behind', async () => {
    const pool = new BufferPool({ limitBytes: 2 * MIB });
    await pool.take(MIB);
    const controller = new AbortController();
    const large = pool.take(4 * MIB, controller.signal);
    const small = pool.take(MIB);
    expect(await settled(small)).toBe(false);
    controller.abort(new Error('not wanted any more'));
    await expect(large).rejects.toThrow('not wanted any more');
    await small;
    expect(pool.waiting).toBe(0);
    await expect(pool.take(MIB, controller.signal)).rejects.toThrow('not wanted any more');
  });

  it('always has one buffer, however low the limit', async () => {
    const pool = new BufferPool({ limitBytes: MIB });
    pool.give(await pool.take(256 * KIB));
    const large = await pool.take(8 * MIB);
    const next = pool.take(256 * KIB);
    expect(await settled(next)).toBe(false);
    pool.give(large);
    await next;
    expect(pool.allocated).toBeLessThanOrEqual(MIB);
  });

  it('asks for what can be spared before it lets anybody wait', async () => {
    const spare: Buffer[] = [];
    const pool = new BufferPool({ limitBytes: 2 * MIB, reclaim: () => spare.shift() });
    spare.push(await pool.take(MIB), await pool.take(MIB));
    const [first] = spare;
    expect(await pool.take(MIB)).toBe(first);
    expect(spare).toHaveLength(1);
    const waiting = pool.take(2 * MIB);
    expect(await settled(waiting)).toBe(false);
  });

  it('gives memory back to the system', async () => {
    const pool = new BufferPool({ limitBytes: 4 * MIB });
    const kept = await pool.take(MIB);
    pool.give(await pool.take(MIB));
    pool.trim();
    expect(pool.allocated).toBe(MIB);
    pool.give(kept);
    pool.trim();
    expect(pool.allocated).toBe(0);
  });
});
