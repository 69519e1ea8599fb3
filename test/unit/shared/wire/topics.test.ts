import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { filters, parseTopic, topics } from '../../../../shared/wire/topics.ts';

const node = parseNodeName('edge-1.site');
const pool = parsePoolName('harbour');

const ours: [string, unknown][] = [
  [topics.hubState, { kind: 'hub-state' }],
  [topics.tuning(pool), { kind: 'tuning', pool }],
  [topics.roster(pool, 12), { kind: 'roster', pool, shard: 12 }],
  [topics.prefetch(pool, 'job-1'), { kind: 'prefetch', pool, id: 'job-1' }],
  [topics.prefetchIndex(pool), { kind: 'prefetch-index', pool }],
  [topics.birth(node), { kind: 'birth', node }],
  [topics.death(node), { kind: 'death', node }],
  [topics.report(node), { kind: 'report', node }],
  [topics.command(node), { kind: 'command', node }],
];

/** MQTT 5, 4.7.1: `+` is one level, `#` is the rest. */
function matches(filter: string, topic: string): boolean {
  const levels = topic.split('/');
  const wanted = filter.split('/');
  return wanted.length === levels.length && wanted.every((level, i) => level === '+' || level === levels[i]);
}

describe('topics', () => {
  it.each(ours)('%s is read back', (topic, parsed) => {
    expect(parseTopic(topic)).toEqual(parsed);
  });

  // Agents and hubs of different releases share a broker: a change here needs a new version in the root.
  it('have the names that the protocol gives them', () => {
    expect(ours.map(([topic]) => topic)).toEqual([
      'tidepool/v1/hub/state',
      'tidepool/v1/pools/harbour/tuning',
      'tidepool/v1/pools/harbour/roster/12',
      'tidepool/v1/pools/harbour/prefetch/job-1',
      'tidepool/v1/pools/harbour/prefetch-index',
      'tidepool/v1/nodes/edge-1.site/birth',
      'tidepool/v1/nodes/edge-1.site/death',
      'tidepool/v1/nodes/edge-1.site/report',
      'tidepool/v1/nodes/edge-1.site/command',
    ]);
  });

  it.each([
    '',
    'tidepool/v1',
    'tidepool/v1/',
    'tidepool/v2/hub/state',
    'tidepool/v1/hub',
    'tidepool/v1/hub/state/x',
    'tidepool/v1/nodes/edge-1',
    'tidepool/v1/nodes/edge-1/unknown',
    'tidepool/v1/nodes/edge-1/report/x',
    'tidepool/v1/nodes/EDGE/report',
    'tidepool/v1/nodes//report',
    'tidepool/v1/nodes/+/report',
    'tidepool/v1/nodes/../report',
    'tidepool/v1/pools/harbour/report',
    'tidepool/v1/pools/harbour/tuning/x',
    'tidepool/v1/pools/harbour/roster',
    'tidepool/v1/pools/harbour/roster/',
    'tidepool/v1/pools/harbour/roster/-1',
    'tidepool/v1/pools/harbour/roster/1e3',
    'tidepool/v1/pools/harbour/roster/12345',
    'tidepool/v1/pools/harbour/roster/1/2',
    'tidepool/v1/pools/harbour/prefetch',
    'tidepool/v1/pools/harbour/prefetch/',
    'tidepool/v1/pools/harbour/prefetch/a/b',
    'x/tidepool/v1/hub/state',
    '$SYS/broker/version',
  ])('%j is not ours', (topic) => {
    expect(parseTopic(topic)).toBeUndefined();
  });

  it('are told apart from any other text without an error', () => {
    const word = fc.oneof(
      fc.constantFrom(
        'tidepool',
        'v1',
        'nodes',
        'pools',
        'edge-1',
        'report',
        'roster',
        'prefetch',
        '7',
        '',
        '+',
        '#',
      ),
      fc.string({ maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 7 }), fc.boolean(), (words, rooted) => {
        const topic = [...(rooted ? ['tidepool', 'v1'] : []), ...words].join('/');
        const parsed = parseTopic(topic);
        if (parsed !== undefined) expect(topic.startsWith('tidepool/v1/')).toBe(true);
      }),
      { seed: 42, numRuns: 1000 },
    );
  });

  it('reach who has to read them, and nobody else', () => {
    const readers = (topic: string): string[] =>
      Object.entries({ hub: filters.hub, agent: filters.agent(node, pool), retained: filters.retained })
        .filter(([, list]) => list.some((filter) => matches(filter, topic)))
        .map(([reader]) => reader);
    expect(Object.fromEntries(ours.map(([topic]) => [parseTopic(topic)?.kind, readers(topic)]))).toEqual({
      'hub-state': ['agent'],
      tuning: ['agent', 'retained'],
      roster: ['agent', 'retained'],
      prefetch: ['agent', 'retained'],
      'prefetch-index': ['agent', 'retained'],
      birth: ['hub'],
      death: ['hub'],
      report: ['hub'],
      command: ['agent'],
    });
    const other = parseNodeName('edge-2');
    const elsewhere = parsePoolName('airport');
    const mine = filters.agent(node, pool);
    for (const topic of [topics.command(other), topics.tuning(elsewhere), topics.roster(elsewhere, 0)]) {
      expect(mine.some((filter) => matches(filter, topic))).toBe(false);
    }
  });
});
