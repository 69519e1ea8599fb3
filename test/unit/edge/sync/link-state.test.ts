import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LinkMonitor } from '../../../../edge/sync/link-monitor.ts';
import { awayMs, type LinkEvent, type LinkState, nextLinkState } from '../../../../edge/sync/link-state.ts';
import type { NodeEvent } from '../../../../shared/wire/events.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const failed = (why: string, more: { refused?: boolean; retryInMs?: number } = {}): LinkEvent => ({
  kind: 'failed',
  why,
  refused: false,
  retryInMs: 1_000,
  ...more,
});

/** Runs events that are a second apart, the first at 1,000. */
function arriveAt(
  events: readonly LinkEvent[],
  from: LinkState = { kind: 'connecting', since: 0 },
): LinkState {
  return events.reduce((state, event, index) => nextLinkState(state, event, (index + 1) * 1_000), from);
}

describe('nextLinkState', () => {
  it('counts an outage from the end of the connection, over all attempts', () => {
    const online = arriveAt([{ kind: 'connected', url: 'mqtt://a' }]);
    expect(online).toEqual({ kind: 'online', since: 1_000, url: 'mqtt://a' });
    const lost = nextLinkState(online, failed('connection lost', { retryInMs: 500 }), 7_000);
    expect(lost).toEqual({
      ...{ kind: 'offline', since: 7_000, why: 'connection lost', retryAt: 7_500, attempts: 1 },
    });
    const later = nextLinkState(lost, failed('no route', { retryInMs: 9_000 }), 8_000);
    expect(later).toEqual({
      ...{ kind: 'offline', since: 7_000, why: 'no route', retryAt: 17_000, attempts: 2 },
    });
    expect(awayMs(later, 10_000)).toBe(3_000);
    expect(awayMs(online, 10_000)).toBe(0);
    expect(nextLinkState(later, { kind: 'connected', url: 'mqtt://b' }, 20_000)).toMatchObject({
      ...{ kind: 'online', since: 20_000, url: 'mqtt://b' },
    });
  });

  it('an agent that never reached its hub has been away since it started', () => {
    expect(arriveAt([failed('ECONNREFUSED')])).toMatchObject({ kind: 'offline', since: 0, attempts: 1 });
  });

  it('tells a hub that says no from one that says nothing', () => {
    const refused = arriveAt([failed('not authorised', { refused: true })]);
    expect(refused.kind).toBe('refused');
    expect(nextLinkState(refused, failed('ETIMEDOUT'), 5_000)).toMatchObject({ kind: 'offline', since: 0 });
  });

  it('stays as it is without a hub, and when it was stopped', () => {
    expect(arriveAt([{ kind: 'started' }, failed('x')], { kind: 'none' })).toEqual({ kind: 'none' });
    const stopped = arriveAt([{ kind: 'stopped' }, failed('late'), { kind: 'connected', url: 'x' }]);
    expect(stopped).toEqual({ kind: 'stopped', since: 1_000 });
    expect(nextLinkState(stopped, { kind: 'started' }, 9_000)).toEqual({ kind: 'connecting', since: 9_000 });
  });

  it('is away exactly when the last thing heard was a failure, whatever came before', () => {
    const event = fc.oneof(
      fc.constant<LinkEvent>({ kind: 'connected', url: 'x' }),
      fc.record({ refused: fc.boolean(), retryInMs: fc.nat(60_000) }).map((more) => failed('x', more)),
    );
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 30 }), (events) => {
        const state = arriveAt(events);
        const last = events.at(-1);
        expect(state.kind === 'online').toBe(last?.kind === 'connected');
        if (state.kind !== 'offline' && state.kind !== 'refused') return;
        const tail = events.length - 1 - events.findLastIndex(({ kind }) => kind === 'connected');
        expect(state.attempts).toBe(tail);
        expect(state.since).toBe(tail === events.length ? 0 : (events.length - tail + 1) * 1_000);
      }),
      { seed: 6 },
    );
  });
});

describe('LinkMonitor', () => {
  it('notes an outage that was a long one, once, when it is over', () => {
    const clock = new ManualClock();
    const noted: NodeEvent[] = [];
    const monitor = new LinkMonitor(
      { clock, events: { note: (event) => noted.push(event) } },
      { hasHub: true },
    );
    const cut = (ms: number): void => {
      monitor.move(failed('lost'));
      clock.advance(ms);
      monitor.move({ kind: 'connected', url: 'x' });
    };
    cut(60_000);
    cut(119_000);
    expect(noted).toEqual([]);
    cut(3_600_000);
    monitor.move({ kind: 'connected', url: 'x' });
    expect(noted).toEqual([{ kind: 'cut-off', detail: 'for 3600 s' }]);
    expect(new LinkMonitor({ clock }, { hasHub: false }).state).toEqual({ kind: 'none' });
  });
});
