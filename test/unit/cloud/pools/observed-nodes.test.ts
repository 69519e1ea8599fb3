import { beforeEach, describe, expect, it } from 'vitest';
import { ObservedNodes } from '../../../../cloud/pools/observed-nodes.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import type { BirthMessage } from '../../../../shared/wire/messages/birth.ts';
import type { PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import type { ReportMessage } from '../../../../shared/wire/messages/report.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const node = parseNodeName('n1');
const birth = (bootId: string, session = 1, more: Partial<BirthMessage> = {}): BirthMessage => ({
  node,
  pool: parsePoolName('alpha'),
  bootId,
  session,
  address: '10.0.0.1:6181',
  version: '1',
  platform: 'linux/amd64',
  at: 0,
  ...more,
});
const progress = (id: string): PrefetchProgress => ({
  id,
  generation: 1,
  state: 'active',
  totalBytes: 2,
  doneBytes: 1,
  wanBytes: 1,
  peerBytes: 0,
});
const report = (bootId: string, seq: number, more: Partial<ReportMessage> = {}): ReportMessage => ({
  node,
  bootId,
  seq,
  at: 0,
  full: false,
  prefetches: [],
  ...more,
});

let clock: ManualClock;
let nodes: ObservedNodes;
beforeEach(() => {
  clock = new ManualClock();
  nodes = new ObservedNodes({ clock });
});

describe('ObservedNodes', () => {
  it('says which births change the roster', () => {
    expect(nodes.birth(birth('a')).moved).toBe(true);
    expect(nodes.birth(birth('b')).moved).toBe(false);
    expect(nodes.birth(birth('b', 2, { address: '10.0.0.2:6181' })).moved).toBe(true);
    expect(nodes.birth(birth('b', 2, { pool: parsePoolName('beta'), address: '10.0.0.2:6181' })).moved).toBe(
      true,
    );
  });

  it('a late will of an older boot, or of an older connection, kills nobody', () => {
    nodes.birth(birth('old'));
    nodes.birth(birth('new', 3));
    expect(nodes.death({ node, bootId: 'old', session: 9 })).toBe(false);
    expect(nodes.death({ node, bootId: 'new', session: 2 })).toBe(false);
    expect(nodes.get(node)?.online).toBe(true);
    expect(nodes.death({ node, bootId: 'new', session: 3 })).toBe(true);
    expect(nodes.get(node)?.online).toBe(false);
  });

  it('a gap in the sequence asks for everything, and not again for a while', () => {
    nodes.birth(birth('a'));
    expect(nodes.report(report('a', 1, { full: true })).resync).toBe(false);
    expect(nodes.report(report('a', 2)).resync).toBe(false);
    expect(nodes.report(report('a', 4))).toEqual({ accepted: true, moved: false, resync: true });
    expect(nodes.report(report('a', 6)).resync).toBe(false);
    clock.advance(10_000);
    expect(nodes.report(report('a', 8)).resync).toBe(true);
    // The answer: everything, under whatever number comes next.
    expect(nodes.report(report('a', 11, { full: true })).resync).toBe(false);
    expect(nodes.report(report('a', 12)).resync).toBe(false);
  });

  it('a report delivered twice counts once', () => {
    nodes.birth(birth('a'));
    nodes.report(report('a', 1, { full: true, tuningHash: 'x' }));
    nodes.report(report('a', 2, { tuningHash: 'y' }));
    expect(nodes.report(report('a', 1, { full: true, tuningHash: 'x' })).accepted).toBe(false);
    expect(nodes.get(node)?.tuningHash).toBe('y');
  });

  it('reports of an unknown node or boot are not believed; the node is asked', () => {
    expect(nodes.report(report('a', 1))).toEqual({ accepted: false, moved: false, resync: true });
    expect(nodes.get(node)).toBeUndefined();
    nodes.birth(birth('a'));
    expect(nodes.report(report('b', 1, { tuningHash: 'x' }))).toEqual({
      accepted: false,
      moved: false,
      resync: true,
    });
    expect(nodes.get(node)?.tuningHash).toBeUndefined();
  });

  it('a full report replaces what was known of prefetches, others add to it', () => {
    nodes.birth(birth('a'));
    nodes.report(report('a', 1, { full: true, prefetches: [progress('x'), progress('y')] }));
    nodes.report(report('a', 2, { prefetches: [progress('z')] }));
    expect([...(nodes.get(node)?.prefetches.keys() ?? [])]).toEqual(['x', 'y', 'z']);
    nodes.report(report('a', 3, { full: true, prefetches: [progress('z')] }));
    expect([...(nodes.get(node)?.prefetches.keys() ?? [])]).toEqual(['z']);
  });

  it('keeps what a boot said of its container runtime until it says otherwise', () => {
    nodes.birth(birth('a'));
    nodes.report(report('a', 1, { runtime: { mirror: 'no', fix: 'set config_path' } }));
    nodes.report(report('a', 2));
    expect(nodes.get(node)?.runtime).toEqual({ mirror: 'no', fix: 'set config_path' });
    nodes.birth(birth('b'));
    expect(nodes.get(node)?.runtime).toBeUndefined();
  });

  it('what is remembered comes back offline, with its address', () => {
    nodes.birth(birth('a'));
    const next = new ObservedNodes({ clock });
    next.restore(nodes.remember());
    expect(next.get(node)).toMatchObject({ online: false, address: '10.0.0.1:6181', pool: 'alpha' });
    expect(next.birth(birth('a')).moved).toBe(false);
    expect(next.get(node)?.online).toBe(true);
  });

  it('is bounded in nodes and in jobs a node', () => {
    const few = new ObservedNodes({ clock }, { maxNodes: 1 });
    few.birth(birth('a'));
    expect(few.birth(birth('b', 1, { node: parseNodeName('n2') })).accepted).toBe(false);
    expect(few.all().size).toBe(1);
    for (let i = 0; i < 1_200; i++) few.report(report('a', i + 1, { prefetches: [progress(`job-${i}`)] }));
    const kept = few.get(node)?.prefetches;
    expect(kept?.size).toBe(1_000);
    expect(kept?.has('job-1199')).toBe(true);
  });

  it('forgets nodes that are long gone, unless a document names them or they are online', () => {
    nodes.birth(birth('a'));
    nodes.birth(birth('b', 1, { node: parseNodeName('n2') }));
    nodes.birth(birth('c', 1, { node: parseNodeName('n3') }));
    for (const name of ['n1', 'n2'])
      nodes.death({ node: parseNodeName(name), bootId: name === 'n1' ? 'a' : 'b', session: 1 });
    clock.advance(1_000);
    expect(nodes.forget(500, (name) => name === 'n2')).toBe(1);
    expect([...nodes.all().keys()]).toEqual(['n2', 'n3']);
  });

  it('after the hub was cut off nobody counts as online until it speaks', () => {
    nodes.birth(birth('a'));
    nodes.report(report('a', 1, { full: true }));
    nodes.doubtAll();
    expect(nodes.get(node)?.online).toBe(false);
    nodes.report(report('a', 2));
    expect(nodes.get(node)?.online).toBe(true);
  });
});
