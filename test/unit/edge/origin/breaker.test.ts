import { describe, expect, it } from 'vitest';
import { Breaker } from '../../../../edge/origin/breaker.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const PASS = { kind: 'pass' } as const;
const PROBE = { kind: 'probe' } as const;

/** Without jitter (random just under 1), so that waits are the ceilings themselves. */
function breaker(clock: ManualClock, random = () => 1 - 1e-9): Breaker {
  return new Breaker(clock, { random });
}

describe('Breaker', () => {
  it('lets all pass while the origin answers', () => {
    const subject = breaker(new ManualClock());
    for (let i = 0; i < 5; i++) {
      expect(subject.admit()).toEqual(PASS);
      subject.succeeded();
    }
    expect(subject.since).toBeUndefined();
  });

  it('shows what it keeps requests from, why, and until when', () => {
    const clock = new ManualClock();
    const subject = breaker(clock);
    expect(subject.open).toBeUndefined();
    subject.failed(PASS, 'connect', 'refused');
    clock.advance(400);
    expect(subject.open).toMatchObject({ since: 0, why: 'refused', probing: false });
    expect(subject.open?.retryInMs).toBeCloseTo(600);
    clock.advance(600);
    expect(subject.admit()).toEqual(PROBE);
    expect(subject.open).toMatchObject({ since: 0, probing: true, retryInMs: 0 });
    subject.succeeded();
    expect(subject.open).toBeUndefined();
  });

  it('opens at the first failure to connect, and says since when and why', () => {
    const clock = new ManualClock();
    clock.advance(5_000);
    const subject = breaker(clock);
    subject.failed(PASS, 'connect', 'refused');
    clock.advance(400);
    expect(subject.since).toBe(5_000);
    expect(subject.admit()).toMatchObject({ kind: 'refused', since: 5_000, why: 'refused' });
  });

  it('bears two missing answers in a row, not three; an answer between starts the count again', () => {
    const subject = breaker(new ManualClock());
    subject.failed(PASS, 'answer', 'late');
    subject.failed(PASS, 'answer', 'late');
    expect(subject.admit()).toEqual(PASS);
    subject.succeeded();
    subject.failed(PASS, 'answer', 'late');
    subject.failed(PASS, 'answer', 'late');
    expect(subject.since).toBeUndefined();
    subject.failed(PASS, 'answer', 'late');
    expect(subject.since).toBe(0);
  });

  it('lets one probe pass after 1, 2, 4 … 60 s, and no second while it is out', () => {
    const clock = new ManualClock();
    const subject = breaker(clock);
    subject.failed(PASS, 'connect', 'refused');
    for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
      clock.advance(seconds * 1000 - 1);
      expect(subject.admit().kind).toBe('refused');
      clock.advance(1);
      expect(subject.admit()).toEqual(PROBE);
      expect(subject.admit().kind).toBe('refused');
      subject.failed(PROBE, 'connect', 'still refused');
    }
    expect(subject.since).toBe(0);
  });

  it('closes when the probe is answered, and starts over with short waits', () => {
    const clock = new ManualClock();
    const subject = breaker(clock);
    for (let i = 0; i < 5; i++) {
      subject.failed(i === 0 ? PASS : PROBE, 'connect', 'refused');
      clock.advance(60_000);
      expect(subject.admit()).toEqual(PROBE);
    }
    subject.succeeded();
    expect(subject.admit()).toEqual(PASS);
    expect(subject.since).toBeUndefined();
    subject.failed(PASS, 'connect', 'refused');
    clock.advance(1_000);
    expect(subject.admit()).toEqual(PROBE);
  });

  it('probes with the next request when a probe was called off', () => {
    const clock = new ManualClock();
    const subject = breaker(clock);
    subject.failed(PASS, 'connect', 'refused');
    clock.advance(1_000);
    expect(subject.admit()).toEqual(PROBE);
    subject.abandoned(PROBE);
    expect(subject.admit()).toEqual(PROBE);
  });

  it('takes no notice of requests that were under way when it opened, except where they succeed', () => {
    const clock = new ManualClock();
    const subject = breaker(clock);
    subject.failed(PASS, 'connect', 'refused');
    for (let i = 0; i < 10; i++) subject.failed(PASS, 'connect', 'refused');
    clock.advance(1_000);
    expect(subject.admit()).toEqual(PROBE);
    subject.abandoned(PASS);
    expect(subject.admit().kind).toBe('refused');
    subject.succeeded();
    expect(subject.admit()).toEqual(PASS);
  });

  it('jitters over the whole wait', () => {
    const clock = new ManualClock();
    const subject = breaker(clock, () => 0.25);
    subject.failed(PASS, 'connect', 'refused');
    clock.advance(249);
    expect(subject.admit().kind).toBe('refused');
    clock.advance(1);
    expect(subject.admit()).toEqual(PROBE);
  });
});
