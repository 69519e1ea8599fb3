import { describe, expect, it } from 'vitest';
import { LEARNED_TTL_MS, MAX_MEMBERS, SET_ASIDE_MS } from '../../../../edge/peers/constants.ts';
import { MemberTable } from '../../../../edge/peers/member-table.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const a = parseNodeName('node-a');
const b = parseNodeName('node-b');
const A = '10.0.0.1:6181';
const B = '10.0.0.2:6181';

function make() {
  const clock = new ManualClock();
  return { clock, table: new MemberTable({ clock, log: silentLogger() }) };
}

describe('the member table', () => {
  it('has one node at an address: the one that was put there last', () => {
    const { table } = make();
    table.put(a, A, 'learned');
    table.put(b, A, 'learned');
    expect(table.names()).toEqual([b]);
  });

  it('keeps who is known when it is full', () => {
    const { table } = make();
    for (let n = 0; n < MAX_MEMBERS; n++) table.put(parseNodeName(`n${n}`), `10.0.0.1:${n}`, 'learned');
    table.put(a, A, 'roster');
    expect(table.get(a)).toBeUndefined();
    expect(table.size).toBe(MAX_MEMBERS);
  });

  it('asks nobody that is suspect, until it answers or has moved', () => {
    const { table } = make();
    table.put(a, A, 'learned');
    expect(table.suspect(a, new Error('gone'))).toBe(true);
    expect(table.suspect(a, new Error('gone'))).toBe(false);
    expect(table.live()).toEqual([]);
    table.heard(a);
    expect(table.isLive(a)).toBe(true);
    table.suspect(a, new Error('gone'));
    table.put(a, B, 'learned');
    expect(table.isLive(a)).toBe(true);
  });

  it('asks nobody that was set aside for minutes, and says a new version with each change', () => {
    const { clock, table } = make();
    table.put(a, A, 'roster');
    const before = table.version;
    table.setAside(a);
    expect(table.version).toBeGreaterThan(before);
    expect(table.isLive(a)).toBe(false);
    expect(table.view()).toMatchObject([{ live: true, setAside: true }]);
    clock.advance(SET_ASIDE_MS);
    const aside = table.version;
    table.sweep();
    expect(table.version).toBeGreaterThan(aside);
    expect(table.live()).toMatchObject([{ node: a }]);
  });

  it('forgets whom only its own word had made a member', () => {
    const { clock, table } = make();
    table.put(a, A, 'learned');
    table.put(b, B, 'static');
    clock.advance(LEARNED_TTL_MS + 1);
    table.sweep();
    expect(table.names()).toEqual([b]);
  });

  it("takes the hub's word over a node's own, and not the other way round", () => {
    const { table } = make();
    table.put(a, A, 'learned');
    table.put(a, A, 'roster');
    table.put(a, A, 'learned');
    expect(table.get(a)?.source).toBe('roster');
  });
});
