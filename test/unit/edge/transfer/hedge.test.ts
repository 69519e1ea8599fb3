import { afterEach, describe, expect, it } from 'vitest';
import type { ProgressAnswer } from '../../../../edge/peers/types.ts';
import {
  HEDGE_FIRST_MS,
  HEDGE_POLL_MS,
  HEDGE_STILL_MS,
  HOLDER_STILL_MS,
} from '../../../../edge/transfer/constants.ts';
import { HedgeWatch } from '../../../../edge/transfer/hedge.ts';
import { PieceTimes } from '../../../../edge/transfer/piece-times.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const KEY = digestOf(Buffer.from('blob'));
const MEMBER = { node: parseNodeName('owner'), address: '10.0.0.1:6181' };

/** A watched ask whose owner answers as `answer` says; counts what the watch decides. */
class Watched {
  readonly clock = new ManualClock();
  questions = 0;
  moved = 0;
  still = 0;
  gone: unknown[] = [];
  received = 0;
  othersMovedAt: number | undefined;
  readonly times = new PieceTimes();
  answer: () => ProgressAnswer | Promise<ProgressAnswer> = () => ({ originBytes: 0, pieces: new Map() });
  readonly watch: HedgeWatch;

  constructor(hedged = true) {
    this.watch = new HedgeWatch(
      {
        clock: this.clock,
        client: {
          progress: async () => {
            this.questions++;
            return this.answer();
          },
        },
      },
      {
        member: MEMBER,
        target: { registry: 'r.example', repository: 'app' },
        key: KEY,
        piece: 3,
        hedged,
        received: () => this.received,
        lastMovedElsewhere: () => this.othersMovedAt,
        medianSince: (at) => this.times.medianSince(at),
        onMoved: () => this.moved++,
        onStill: () => {
          this.still++;
          // As its owner does: the ask is over.
          this.watch.stop();
        },
        onGone: (error) => {
          this.gone.push(error);
          this.watch.stop();
        },
      },
    );
  }

  async pass(ms: number, each: () => void = () => undefined): Promise<void> {
    for (let left = ms; left > 0; left -= HEDGE_POLL_MS) {
      each();
      this.clock.advance(Math.min(left, HEDGE_POLL_MS));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

let watched = new Watched();
afterEach(() => {
  watched.watch.stop();
  expect(watched.clock.timers).toBe(0);
});

describe('the watch on a held ask', () => {
  it('passes an owner over whose count stands still while others’ bytes move', async () => {
    watched = new Watched();
    await watched.pass(HEDGE_FIRST_MS + HEDGE_STILL_MS + 2 * HEDGE_POLL_MS, () => {
      watched.othersMovedAt = watched.clock.mono();
    });
    expect(watched.still).toBe(1);
  });

  it('asks nothing about an ask that is answered soon', async () => {
    watched = new Watched();
    await watched.pass(HEDGE_FIRST_MS - 1);
    expect(watched.questions).toBe(0);
    await watched.pass(1);
    expect(watched.questions).toBe(1);
  });

  it('waits while nothing moves anywhere: then it is the uplink, not the owner', async () => {
    watched = new Watched();
    watched.othersMovedAt = 0;
    await watched.pass(20 * HEDGE_STILL_MS);
    expect(watched.still).toBe(0);
    expect(watched.questions).toBeGreaterThan(50);
  });

  it('waits while the piece grows, however slowly, and says so', async () => {
    watched = new Watched();
    let bytes = 0;
    watched.answer = () => ({ originBytes: 0, pieces: new Map([[3, bytes]]) });
    await watched.pass(60_000, () => {
      watched.othersMovedAt = watched.clock.mono();
      if (watched.questions % 4 === 0) bytes++;
    });
    expect(watched.still).toBe(0);
    expect(watched.moved).toBeGreaterThan(10);
  });

  it('waits while the piece is queued behind others that the owner reads', async () => {
    watched = new Watched();
    watched.answer = () => ({ originBytes: watched.questions, pieces: new Map([[9, watched.questions]]) });
    await watched.pass(60_000, () => {
      watched.othersMovedAt = watched.clock.mono();
    });
    expect(watched.still).toBe(0);
  });

  it('gives an owner up that answers two questions in a row with nothing, not one', async () => {
    watched = new Watched();
    let fail = true;
    watched.answer = () => {
      if (!fail) return { originBytes: 1, pieces: new Map() };
      throw new Error('no answer');
    };
    await watched.pass(HEDGE_FIRST_MS);
    fail = false;
    await watched.pass(HEDGE_POLL_MS);
    fail = true;
    await watched.pass(HEDGE_POLL_MS);
    expect(watched.gone).toEqual([]);
    await watched.pass(HEDGE_POLL_MS);
    expect(watched.gone).toEqual([new Error('no answer')]);
  });

  it('asks no more once bytes come, and asks one question at a time', async () => {
    watched = new Watched();
    let finish: (answer: ProgressAnswer) => void = () => undefined;
    watched.answer = () =>
      new Promise((resolve) => {
        finish = resolve;
      });
    await watched.pass(HEDGE_FIRST_MS + 2 * HEDGE_POLL_MS);
    expect(watched.questions).toBe(1);
    finish({ originBytes: 1, pieces: new Map() });
    await watched.pass(1);
    await watched.pass(HEDGE_POLL_MS);
    expect(watched.questions).toBe(2);
    finish({ originBytes: 2, pieces: new Map() });
    watched.received = 1;
    await watched.pass(30_000);
    expect(watched.questions).toBe(2);
  });

  it('passes one over that has the piece and sends nothing of it, sooner or later', async () => {
    watched = new Watched(false);
    let bytes = 0;
    watched.answer = () => ({ originBytes: bytes++, pieces: new Map() });
    await watched.pass(HOLDER_STILL_MS - HEDGE_POLL_MS);
    expect(watched.still).toBe(0);
    await watched.pass(2 * HEDGE_POLL_MS);
    expect(watched.still).toBe(1);
  });

  it('passes one over whose piece drips, while later ones overtake it', async () => {
    watched = new Watched(false);
    watched.received = 1;
    await watched.pass(HEDGE_FIRST_MS + HEDGE_POLL_MS);
    for (let n = 1; n <= 3; n++) watched.times.add(watched.clock.mono(), watched.clock.mono() + 500);
    await watched.pass(HOLDER_STILL_MS - 3 * HEDGE_POLL_MS, () => watched.received++);
    expect(watched.still).toBe(0);
    await watched.pass(3 * HEDGE_POLL_MS, () => watched.received++);
    expect(watched.still).toBe(1);
  });

  it('waits for a begun piece where all are slow, or where it was fast before it began', async () => {
    watched = new Watched(false);
    for (let n = 1; n <= 9; n++) watched.times.add(n, n + 100);
    await watched.pass(HEDGE_POLL_MS);
    watched.received = 1;
    await watched.pass(10 * HOLDER_STILL_MS, () => watched.received++);
    expect(watched.still).toBe(0);
    // 256 kbit/s shared by four: each takes half a minute, this one four times that.
    const at = watched.clock.mono();
    for (let n = 0; n < 9; n++) watched.times.add(at + n, at + n + 33_000);
    await watched.pass(120_000, () => watched.received++);
    expect(watched.still).toBe(0);
  });

  it('decides nothing after its end, whatever answers come late', async () => {
    watched = new Watched();
    let fail: (error: Error) => void = () => undefined;
    watched.answer = () =>
      new Promise((_, reject) => {
        fail = reject;
      });
    await watched.pass(HEDGE_FIRST_MS);
    watched.watch.stop();
    fail(new Error('late'));
    await watched.pass(10 * HEDGE_STILL_MS);
    expect([watched.still, watched.gone, watched.questions]).toEqual([0, [], 1]);
  });
});
