import { beforeEach, describe, expect, it } from 'vitest';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import type { AccessAnswer } from '../../../../edge/peers/types.ts';
import { withResolvers } from '../../../../edge/transfer/flight.ts';
import { Patience, type Question, Silence } from '../../../../edge/transfer/patience.ts';
import { patienceOf, RegistryPace, slowestOf } from '../../../../edge/transfer/registry-pace.ts';
import { TransferStats } from '../../../../edge/transfer/stats.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const NAME = { registry: 'r.example', repository: 'app' };

class Fixture {
  readonly clock = new ManualClock();
  readonly stats = new TransferStats();
  readonly documents = openIndex(':memory:', { log: silentLogger() }).documents;
  readonly pace = new RegistryPace(this);
  /** What neighbours say at the moment they are asked. */
  readonly neighbours: (() => AccessAnswer)[] = [];
  readonly registry = withResolvers<string>();
  downSince: number | undefined;
  given: AbortSignal | undefined;
  readonly patience = new Patience({
    origin: { downSince: () => this.downSince },
    client: { access: async ({ node }) => this.neighbours[Number(node.slice(1))]?.() ?? {} },
    members: {
      live: () => this.neighbours.map((_, n) => ({ node: parseNodeName(`n${n}`), address: '10.0.0.1:1' })),
      suspect: () => undefined,
    },
    pace: this.pace,
    clock: this.clock,
  });

  put(quorum = 1, signal?: AbortSignal): Question<string> {
    return this.patience.put(NAME, { quorum, signal }, (inner) => {
      this.given = inner;
      return this.registry.promise;
    });
  }

  /** Ms until the registry is not waited for any more; undefined: it is, after `limitMs`. */
  async silentAfter(question: Question<string>, limitMs = 8_000): Promise<number | undefined> {
    const startedAt = this.clock.mono();
    let endedAt: number | undefined;
    const end = (): void => {
      endedAt = this.clock.mono() - startedAt;
    };
    question.patient.then(end, end);
    for (let at = 0; at < limitMs && endedAt === undefined; at += 50) {
      this.clock.advance(50);
      await settled();
    }
    return endedAt;
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

let fixture: Fixture;
beforeEach(() => {
  fixture = new Fixture();
  fixture.registry.promise.catch(() => undefined);
});

describe('how long a registry is waited for', () => {
  it('is a bound where nobody knows its pace', async () => {
    fixture.neighbours.push(() => ({}));
    expect(await fixture.silentAfter(fixture.put())).toBe(5_000);
  });

  it.each([
    [20, 1_000],
    [600, 1_800],
    [4_000, 5_000],
  ])('is a multiple of what it took lately: after %i ms, %i ms', async (tookMs, waitMs) => {
    fixture.pace.answered(NAME.registry, tookMs);
    const question = fixture.put();
    expect(await fixture.silentAfter(question)).toBe(waitMs);
    expect(await question.patient).toBeInstanceOf(Silence);
    expect(await question.quiet).toBe(true);
  });

  it('is what as many neighbours say as may move a tag, where this node has not asked it before', async () => {
    fixture.neighbours.push(() => ({ patienceMs: 1 }));
    expect(await fixture.silentAfter(fixture.put(2))).toBe(5_000);
    fixture.neighbours.push(() => ({ patienceMs: 2_000 }));
    expect(await fixture.silentAfter(fixture.put(2))).toBe(2_000);
    // Never so short that a hiccup counts.
    expect(await fixture.silentAfter(fixture.put(1))).toBe(1_000);
  });

  it('is longer while anything comes over the WAN, here or at a neighbour', async () => {
    fixture.pace.answered(NAME.registry, 20);
    fixture.stats.wanAt = fixture.clock.mono() + 900;
    expect(await fixture.silentAfter(fixture.put())).toBe(1_900);
    let heardMs: number | undefined = 100;
    fixture.neighbours.push(() => (heardMs === undefined ? {} : { heardMs }));
    expect(await fixture.silentAfter(fixture.put())).toBe(5_000);
    heardMs = undefined;
    expect(await fixture.silentAfter(fixture.put())).toBe(1_000);
    // Of before the question: that says nothing.
    heardMs = 60_000;
    expect(await fixture.silentAfter(fixture.put())).toBe(1_000);
  });

  it('is nothing where it is known to be down, here or by enough neighbours', async () => {
    fixture.neighbours.push(() => ({ downSince: 5 }));
    expect(await fixture.silentAfter(fixture.put(1))).toBe(200);
    expect(await fixture.silentAfter(fixture.put(2))).toBe(5_000);
    fixture.downSince = 5;
    expect(await fixture.put(2).patient).toBeInstanceOf(Silence);
  });
});

describe('a question to a registry', () => {
  it('is answered by its word, refusals too, which say how long it takes', async () => {
    const question = fixture.put();
    fixture.clock.advance(150);
    fixture.registry.reject(new TidepoolError('MANIFEST_UNKNOWN', 'no such manifest'));
    await expect(question.patient).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    expect(await question.quiet).toBe(false);
    expect(fixture.pace.patienceMs(NAME.registry)).toBe(1_000);
    expect(fixture.pace.patienceMs('other.example')).toBeUndefined();
    await settled();
    expect(fixture.clock.timers).toBe(0);
  });

  it('that fails is silence, and says nothing of how long answers take', async () => {
    const question = fixture.put();
    fixture.registry.reject(new TidepoolError('ORIGIN_UNREACHABLE', 'no route'));
    expect(await question.patient).toBeInstanceOf(Silence);
    expect(fixture.pace.patienceMs(NAME.registry)).toBeUndefined();
  });

  it('goes on when it is not waited for, and ends by its own bound', async () => {
    fixture.pace.answered(NAME.registry, 20);
    const caller = new AbortController();
    const question = fixture.put(1, caller.signal);
    await fixture.silentAfter(question);
    caller.abort(new Error('answered from a record'));
    expect(fixture.given?.aborted).toBe(false);
    for (let at = 1_000; at <= 6_000; at += 500) {
      fixture.clock.advance(500);
      await settled();
    }
    expect(fixture.given?.aborted).toBe(true);
    await expect(question.answer).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(fixture.clock.timers).toBe(0);
  });

  it('ends with its caller before that', async () => {
    const caller = new AbortController();
    const question = fixture.put(1, caller.signal);
    caller.abort(new Error('the client left'));
    await expect(question.patient).rejects.toThrow('the client left');
    expect(fixture.given?.aborted).toBe(true);
    await settled();
    expect(fixture.clock.timers).toBe(0);
  });
});

describe('the pace of a registry', () => {
  it('is that of its slowest answer, which dozens of quick ones make forgotten', () => {
    let slowest = slowestOf(undefined, 3_000);
    expect(patienceOf(slowest)).toBe(5_000);
    for (let n = 0; n < 23; n++) slowest = slowestOf(slowest, 10);
    expect(Math.round(slowest / 100)).toBe(15);
    for (let n = 0; n < 200; n++) slowest = slowestOf(slowest, 10);
    expect(patienceOf(slowest)).toBe(1_000);
  });

  it('is known after a restart, without a write for each answer', () => {
    const written: unknown[] = [];
    const documents = {
      get: () => written.at(-1),
      put: (_name: string, value: unknown) => void written.push(value),
    };
    const { stats, clock } = fixture;
    const pace = new RegistryPace({ documents, stats, clock });
    pace.answered('a.example', 1_000);
    for (let n = 0; n < 500; n++) pace.answered('a.example', 20);
    expect(written.length).toBeLessThan(6);
    pace.answered('a.example', 900);
    for (let n = 0; n < 200; n++) pace.answered(`${n}.example`, 20);
    pace.answered('a.example', 900);
    const again = new RegistryPace({ documents, stats, clock });
    expect(again.patienceMs('a.example')).toBe(2_700);
    expect(Object.keys(Object(written.at(-1)))).toHaveLength(64);
    for (const rubbish of [undefined, null, 7, [], { 'a.example': 'x' }, { 'a.example': -1 }]) {
      const none = new RegistryPace({
        documents: { get: () => rubbish, put: () => undefined },
        stats,
        clock,
      });
      expect(none.patienceMs('a.example')).toBeUndefined();
    }
  });
});
