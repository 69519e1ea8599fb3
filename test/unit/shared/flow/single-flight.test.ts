import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { raceAbort, SingleFlight } from '../../../../shared/flow/single-flight.ts';

interface Job {
  readonly signal: AbortSignal;
  readonly resolve: (value: string) => void;
  readonly reject: (reason: unknown) => void;
}

/** Jobs that end when the test says so. */
function jobs() {
  const started: Job[] = [];
  const job = (signal: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      started.push({ signal, resolve, reject });
    });
  const at = (index: number): Job => {
    const found = started[index];
    if (found === undefined) throw new Error(`no job ${index}`);
    return found;
  };
  return { started, job, at };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function deferred(): { promise: Promise<string>; reject: (reason: unknown) => void } {
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<string>((_, fail) => {
    reject = fail;
  });
  return { promise, reject };
}

describe('SingleFlight', () => {
  it('runs once for many callers of a key, once more for another key', async () => {
    const { started, job, at } = jobs();
    const flights = new SingleFlight<string, string>();
    const same = [flights.run('a', job), flights.run('a', job), flights.run('a', job)];
    const other = flights.run('b', job);
    expect([started.length, flights.size]).toEqual([2, 2]);
    at(0).resolve('done');
    expect(await Promise.all(same)).toEqual(['done', 'done', 'done']);
    expect(flights.size).toBe(1);
    at(1).resolve('too');
    expect(await other).toBe('too');
    expect(flights.size).toBe(0);
  });

  it('passes a failure on to all, and remembers none of it', async () => {
    const { job, at } = jobs();
    const flights = new SingleFlight<string, string>();
    const all = Promise.allSettled([flights.run('a', job), flights.run('a', job)]);
    at(0).reject(new Error('boom'));
    for (const result of await all)
      expect(result).toMatchObject({ status: 'rejected', reason: { message: 'boom' } });
    const again = flights.run('a', job);
    at(1).resolve('better');
    expect(await again).toBe('better');
  });

  it('aborts the job only when the last caller leaves; who stays gets the answer', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc
          .integer({ min: 1, max: 6 })
          .chain((count) =>
            fc.tuple(fc.constant(count), fc.shuffledSubarray(Array.from({ length: count }, (_, i) => i))),
          ),
        async ([count, leavers]) => {
          const { started, job, at } = jobs();
          const flights = new SingleFlight<string, string>();
          const controllers = Array.from({ length: count }, () => new AbortController());
          const results = Promise.allSettled(controllers.map(({ signal }) => flights.run('a', job, signal)));
          let left = 0;
          for (const leaver of leavers) {
            expect(at(0).signal.aborted).toBe(false);
            controllers[leaver]?.abort(new Error(`caller ${leaver} left`));
            left++;
            await settled();
            expect(at(0).signal.aborted).toBe(left === count);
            expect(flights.size).toBe(left === count ? 0 : 1);
          }
          at(0).resolve('done');
          for (const [caller, result] of (await results).entries()) {
            if (leavers.includes(caller)) {
              expect(result).toMatchObject({
                status: 'rejected',
                reason: { message: `caller ${caller} left` },
              });
            } else {
              expect(result).toEqual({ status: 'fulfilled', value: 'done' });
            }
          }
          expect(started).toHaveLength(1);
          expect(flights.size).toBe(0);
        },
      ),
      { seed: 42 },
    );
  });

  it('starts anew for whoever comes after the last has left, though the old job has not ended', async () => {
    const { started, job, at } = jobs();
    const flights = new SingleFlight<string, string>();
    const controller = new AbortController();
    const gone = flights.run('a', job, controller.signal);
    controller.abort(new Error('left'));
    await expect(gone).rejects.toThrow('left');
    const next = flights.run('a', job);
    expect(started).toHaveLength(2);
    at(0).reject(new Error('called off'));
    await settled();
    expect(flights.size).toBe(1);
    expect(at(1).signal.aborted).toBe(false);
    at(1).resolve('fresh');
    expect(await next).toBe('fresh');
  });

  it('starts nothing for a caller that has left already, or for a job that throws at once', async () => {
    const { started, job } = jobs();
    const flights = new SingleFlight<string, string>();
    await expect(flights.run('a', job, AbortSignal.abort(new Error('early')))).rejects.toThrow('early');
    const broken = (): Promise<string> => {
      throw new Error('at once');
    };
    await expect(flights.run('a', broken)).rejects.toThrow('at once');
    expect([started.length, flights.size]).toEqual([0, 0]);
  });
});

describe('raceAbort', () => {
  it('takes its listener off, however it ends', async () => {
    for (const start of [() => Promise.resolve('x'), () => Promise.reject(new Error('x'))]) {
      const { signal } = new AbortController();
      const added = vi.spyOn(signal, 'addEventListener');
      const removed = vi.spyOn(signal, 'removeEventListener');
      await raceAbort<string>(start(), signal).catch(() => undefined);
      await settled();
      expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
    }
  });

  it('lets a promise that fails after the abort fail unheard', async () => {
    const unheard: unknown[] = [];
    const hear = (reason: unknown): void => {
      unheard.push(reason);
    };
    process.on('unhandledRejection', hear);
    try {
      for (const early of [true, false]) {
        const controller = new AbortController();
        if (early) controller.abort(new Error('left'));
        const late = deferred();
        const raced = raceAbort(late.promise, controller.signal);
        controller.abort(new Error('left'));
        await expect(raced).rejects.toThrow('left');
        late.reject(new Error('nobody listens'));
        await settled();
      }
      expect(unheard).toEqual([]);
    } finally {
      process.off('unhandledRejection', hear);
    }
  });
});
