import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Slots } from '../../../../shared/flow/queue.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('acquire' as const), pick: fc.nat({ max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('release' as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('abort' as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('limit' as const), pick: fc.nat({ max: 4 }) }) },
);

describe('Slots', () => {
  it('never go over the limit, and go to the lowest number, then to who came first', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const maxWaiting = 4;
        let limit = 2;
        const slots = new Slots(limit, maxWaiting);
        const releases = new Map<number, () => void>();
        const refused: number[] = [];
        const aborts = new Map<number, AbortController>();
        // The model: who holds a slot, and the line.
        const held: number[] = [];
        let line: { id: number; priority: number }[] = [];
        const refusedByModel: number[] = [];
        const grant = (): void => {
          while (held.length < limit) {
            const next = line.shift();
            if (next === undefined) return;
            held.push(next.id);
          }
        };
        for (const [id, each] of steps.entries()) {
          if (each.kind === 'acquire') {
            const controller = new AbortController();
            aborts.set(id, controller);
            slots.acquire({ priority: each.pick, signal: controller.signal }).then(
              (release) => releases.set(id, release),
              () => refused.push(id),
            );
            if (held.length < limit || line.length < maxWaiting) {
              line = [...line, { id, priority: each.pick }].sort((a, b) => a.priority - b.priority);
              grant();
            } else refusedByModel.push(id);
          } else if (each.kind === 'release' && held.length > 0) {
            const [id] = held.splice(each.pick % held.length, 1);
            const release = releases.get(id ?? -1);
            releases.delete(id ?? -1);
            release?.();
            // A second call gives back nothing.
            release?.();
            grant();
          } else if (each.kind === 'abort' && line.length > 0) {
            const [left] = line.splice(each.pick % line.length, 1);
            if (left === undefined) continue;
            aborts.get(left.id)?.abort(new Error('left'));
            refusedByModel.push(left.id);
          } else if (each.kind === 'limit') {
            limit = each.pick;
            slots.setLimit(limit);
            grant();
          }
          await settled();
          expect([...releases.keys()].sort()).toEqual([...held].sort());
          expect([...refused].sort()).toEqual([...refusedByModel].sort());
          expect([slots.used, slots.waiting]).toEqual([held.length, line.length]);
        }
      }),
      { seed: 42, numRuns: 150 },
    );
  });

  it('refuses with a code when the line is full', async () => {
    const slots = new Slots(0, 1);
    void slots.acquire();
    await expect(slots.acquire()).rejects.toMatchObject({ code: 'OVERLOADED' });
  });

  it('rejects with the reason of an abort, before and while in line', async () => {
    const slots = new Slots(1);
    await expect(slots.acquire({ signal: AbortSignal.abort(new Error('early')) })).rejects.toThrow('early');
    expect(slots.used).toBe(0);
    const release = await slots.acquire();
    const controller = new AbortController();
    const waiting = slots.acquire({ signal: controller.signal });
    controller.abort(new Error('late'));
    await expect(waiting).rejects.toThrow('late');
    release();
    expect([slots.used, slots.waiting]).toEqual([0, 0]);
  });

  it('an abort after the slot was given changes nothing', async () => {
    const slots = new Slots(1);
    const first = await slots.acquire();
    const controller = new AbortController();
    const second = slots.acquire({ signal: controller.signal });
    first();
    controller.abort();
    const release = await second;
    expect(slots.used).toBe(1);
    release();
    expect(slots.used).toBe(0);
  });

  it('tryAcquire never overtakes', async () => {
    const slots = new Slots(1);
    const release = slots.tryAcquire();
    expect(release).toBeDefined();
    expect(slots.tryAcquire()).toBeUndefined();
    const waiting = slots.acquire();
    slots.setLimit(0);
    release?.();
    slots.setLimit(1);
    expect(slots.tryAcquire()).toBeUndefined();
    (await waiting)();
    expect(slots.tryAcquire()).toBeDefined();
  });
});
