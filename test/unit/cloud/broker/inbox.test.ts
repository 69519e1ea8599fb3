import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Inbox } from '../../../../cloud/broker/inbox.ts';
import { ObservedNodes } from '../../../../cloud/pools/observed-nodes.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { encode } from '../../../../shared/wire/messages/codec.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function setup() {
  const clock = new ManualClock();
  const observed = new ObservedNodes({ clock });
  const asked: string[] = [];
  let moved = 0;
  const inbox = new Inbox({
    clock,
    log: silentLogger(),
    observed,
    onMoved: () => moved++,
    resync: (node) => void asked.push(node),
  });
  return { inbox, observed, asked, moved: () => moved };
}
const birth = (node: string) => ({
  node,
  pool: 'alpha',
  bootId: 'b',
  address: '10.0.0.1:6181',
  version: '1',
  platform: 'linux/amd64',
  at: 0,
});
const topic = (node: string, kind: string): string => `tidepool/v1/nodes/${node}/${kind}`;

describe('Inbox', () => {
  it('tells births, wills and reports, and what follows from them', () => {
    const { inbox, observed, asked, moved } = setup();
    inbox.take(topic('n1', 'birth'), encode(birth('n1')));
    inbox.take(topic('n1', 'birth'), encode(birth('n1')));
    expect(moved()).toBe(1);
    inbox.take(topic('n1', 'report'), encode({ node: 'n1', bootId: 'b', seq: 3, at: 0, full: false }));
    expect(asked).toEqual(['n1']);
    inbox.take(topic('n1', 'death'), encode({ node: 'n1', bootId: 'b' }));
    expect([...observed.all().values()].map(({ online }) => online)).toEqual([false]);
    expect([inbox.received, inbox.bad]).toEqual([4, 0]);
  });

  it('refuses what one node says in the name of another, and what is too large', () => {
    const { inbox, observed } = setup();
    inbox.take(topic('n2', 'birth'), encode(birth('n1')));
    inbox.take(topic('n1', 'birth'), encode({ ...birth('n1'), version: 'x'.repeat(70_000) }));
    expect(observed.all().size).toBe(0);
    expect(inbox.bad).toBe(2);
  });

  it('never throws, whatever comes on whatever topic', () => {
    const { inbox } = setup();
    const node = fc.constantFrom('n1', 'N 1', '..', '');
    const kind = fc.constantFrom('birth', 'death', 'report', 'command', '');
    const shaped = fc
      .record(
        {
          node: fc.oneof(node, fc.anything()),
          pool: fc.oneof(fc.constant('alpha'), fc.anything()),
          bootId: fc.oneof(fc.constant('b'), fc.anything()),
          address: fc.anything(),
          seq: fc.oneof(fc.integer(), fc.anything()),
          at: fc.oneof(fc.double(), fc.anything()),
          full: fc.oneof(fc.boolean(), fc.anything()),
          prefetches: fc.anything(),
          counters: fc.anything(),
          __proto__: fc.anything(),
        },
        { requiredKeys: [] },
      )
      .map((value) => Buffer.from(JSON.stringify(value) ?? ''));
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((text) => Buffer.from(text)),
      shaped,
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.tuple(node, kind).map(([a, b]) => topic(a, b)),
        ),
        payload,
        (where, what) => {
          inbox.take(where, what);
        },
      ),
      { seed: 42, numRuns: 1_000 },
    );
    expect(inbox.bad).toBeGreaterThan(50);
  });
});
