import { beforeEach, describe, expect, it } from 'vitest';
import { KubeError } from '../../../../cloud/kube/kube-error.ts';
import { Outbox } from '../../../../cloud/kube/outbox.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let clock: ManualClock;
let leads: boolean;
let listener: () => void;
let outbox: Outbox;
let written: string[];

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const pass = async (ms: number): Promise<void> => {
  await settle();
  clock.advance(ms);
  await settle();
};
const put = (key: string, text = key): void =>
  outbox.put(key, async () => {
    written.push(text);
  });

beforeEach(() => {
  clock = new ManualClock();
  leads = true;
  written = [];
  const leadership = {
    get leads() {
      return leads;
    },
    onChange: (told: () => void) => {
      listener = told;
      return () => undefined;
    },
  };
  const init = { what: 'things', intervalMs: 250, maxWaiting: 3, random: () => 0.5 };
  outbox = new Outbox({ clock, log: silentLogger(), leadership }, init);
});

describe('Outbox', () => {
  it('writes one after the other, never faster than agreed, and of a key only the newest', async () => {
    put('a', 'a1');
    put('b', 'b1');
    put('b', 'b2');
    put('c', 'c1');
    await settle();
    expect(written).toEqual(['a1']);
    await pass(249);
    expect(written).toEqual(['a1']);
    await pass(1);
    expect(written).toEqual(['a1', 'b2']);
    await pass(250);
    expect(written).toEqual(['a1', 'b2', 'c1']);
  });

  it('is bounded', async () => {
    for (const key of ['first', 'a', 'b', 'c', 'd', 'e']) put(key);
    expect(outbox.dropped).toBe(2);
  });

  it('drops what waits when the lease is lost, and takes nothing meanwhile', async () => {
    put('a');
    put('b');
    await settle();
    leads = false;
    listener();
    put('c');
    await pass(10_000);
    leads = true;
    listener();
    put('d');
    await pass(0);
    expect(written).toEqual(['a', 'd']);
  });

  it('asks for each write whether it still leads', async () => {
    put('a');
    put('b');
    await settle();
    // Lost, and nobody was told yet.
    leads = false;
    await pass(250);
    expect(written).toEqual(['a']);
    expect(outbox.waiting).toBe(0);
  });

  it('tries again what a busy or absent server did not take, when it asked for it, with the newest', async () => {
    let tries = 0;
    outbox.put('a', async () => {
      tries++;
      throw new KubeError('busy', { httpStatus: 429, retryAfterMs: 5_000 });
    });
    await pass(4_999);
    expect(tries).toBe(1);
    expect(outbox.problem?.message).toMatch(/could not write the things: busy/);
    put('a', 'newest');
    await pass(2_000);
    expect(tries).toBe(1);
    expect(written).toEqual(['newest']);
    expect(outbox.problem).toBeUndefined();
  });

  it.each([404, 409])('gives up what is gone or another object (%i), without a fuss', async (httpStatus) => {
    outbox.put('a', () => Promise.reject(new KubeError('gone', { httpStatus })));
    put('b');
    await pass(250);
    expect(written).toEqual(['b']);
    expect(outbox.problem).toBeUndefined();
  });

  it('tells a refusal, and goes on with the others', async () => {
    outbox.put('a', () => Promise.reject(new KubeError('no such field', { httpStatus: 422 })));
    await settle();
    expect(outbox.problem?.message).toMatch(/no such field/);
    put('b');
    await pass(250);
    expect(written).toEqual(['b']);
    expect(outbox.waiting).toBe(0);
  });
});
