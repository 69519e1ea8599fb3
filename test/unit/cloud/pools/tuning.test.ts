import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Member } from '../../../../cloud/pools/membership.ts';
import { poolTuning, settingsFor, wantsGateways } from '../../../../cloud/pools/tuning-effective.ts';
import type { TuningEntry } from '../../../../cloud/pools/tuning-kinds.ts';
import { parseKind, parseTuning } from '../../../../cloud/pools/tuning-parse.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { type TuningSettings, tuningSettings } from '../../../../shared/wire/messages/tuning.ts';
import { mergeTuning, resolveTuning } from '../../../../shared/wire/tuning.ts';

const POOL = 'apps.openyurt.io/nodepool';
const pool = parsePoolName('hangzhou');
const member = (name: string, labels: Record<string, string> = {}): Member => ({
  node: parseNodeName(name),
  pool,
  labels: { 'kubernetes.io/hostname': name, [POOL]: pool, ...labels },
  address: undefined,
});
const desired = (data: Record<string, string>) => ({ data, source: 'tuning.yaml:1' });
const offence = (kind: 'wan' | 'swarm' | 'logLevel', text: string): string => {
  const result = parseKind(kind, text);
  return 'offences' in result
    ? result.offences.map(({ line, message }) => `${line}: ${message}`).join('\n')
    : 'accepted';
};

describe('parseKind', () => {
  it('reads the form of the design: root key repeated, nested prefetch rate, selectors', () => {
    const text = [
      'wan:',
      '- name: everyone',
      '  operator: Exists',
      '  key: kubernetes.io/hostname',
      '  settings: {download: 50Mbit, prefetch: {download: 4Mbit}}',
      '- name: thin-uplinks',
      `  key: ${POOL}`,
      '  operator: In',
      '  values: [hangzhou, ningbo]',
      '  settings: {download: 10Mbit}',
    ].join('\n');
    const { table, problems } = parseTuning(desired({ wan: text }), {});
    expect(problems).toEqual([]);
    expect(settingsFor(table, member('n1').labels)).toEqual({
      wan: { download: '10Mbit', prefetchDownload: '4Mbit' },
    });
    expect(settingsFor(table, { 'kubernetes.io/hostname': 'x', [POOL]: 'other' })).toEqual({
      wan: { download: '50Mbit', prefetchDownload: '4Mbit' },
    });
  });

  it('reads a bare list, the pool shortcut, several expressions, and a log level in either form', () => {
    const data = {
      lan: `- {name: a, pool: hangzhou, match: [{key: disk, value: ssd}], settings: {upload: 1Gbit}}`,
      swarm: '- {name: b, settings: {weight: 2, upstream: ["10.0.0.1:6181"]}}',
      tags: 'tags:\n- {name: c, settings: {policy: pinned, quorum: 2}}',
      prefetch: '- {name: d, settings: {concurrency: 4}}',
      logLevel:
        '- {name: e, settings: debug}\n- {name: f, key: quiet, operator: Exists, settings: {level: warn}}',
    };
    const { table, problems } = parseTuning(desired(data), {});
    expect(problems).toEqual([]);
    const rest = {
      swarm: { weight: 2, upstream: ['10.0.0.1:6181'] },
      tags: { policy: 'pinned', quorum: 2 },
      prefetch: { concurrency: 4 },
    };
    expect(settingsFor(table, member('n1', { disk: 'ssd' }).labels)).toEqual({
      ...rest,
      lan: { upload: '1Gbit' },
      logLevel: 'debug',
    });
    expect(settingsFor(table, member('n1', { disk: 'hdd', quiet: '' }).labels)).toEqual({
      ...rest,
      logLevel: 'warn',
    });
    expect(settingsFor(table, { disk: 'ssd', [POOL]: 'other' })).toEqual({ ...rest, logLevel: 'debug' });
  });

  it('tells line and reason of a bad entry', () => {
    expect(offence('wan', '- {name: a, settings: {}}\n- name: b\n  settings:\n    downlaod: 1Mbit\n')).toBe(
      '4: [1].settings: unknown key "downlaod"; did you mean "download"?',
    );
    expect(offence('wan', 'wan:\n- name: a\n  settings: {download: fast}\n')).toMatch(
      /^3: wan\[0\].settings.download: not a rate/,
    );
    expect(offence('wan', '- {name: a, key: x, settings: {}}')).toMatch(/operator In needs value or values/);
    expect(offence('wan', '- {name: a, operator: In, value: x, settings: {}}')).toMatch(/need a key/);
    expect(offence('wan', '- {name: a, key: x, operator: Exists, value: y, settings: {}}')).toMatch(
      /takes no value/,
    );
    expect(offence('wan', '- {name: a, settings: {}}\n- {name: a, settings: {}}')).toBe(
      '2: a second entry named "a"',
    );
    expect(offence('wan', 'wna:\n- {name: a, settings: {}}')).toMatch(
      /unknown key "wna"; did you mean "wan"/,
    );
    expect(
      offence('wan', '- {name: a, settings: {prefetch: {download: 1Mbit}, prefetchDownload: 2Mbit}}'),
    ).toMatch(/say the same/);
    expect(offence('swarm', '- {name: a, settings: {upstream: ["seed.example:6181"]}}')).toMatch(
      /expected address:port/,
    );
    expect(offence('logLevel', '- {name: a, settings: {level: loud}}')).toMatch(/\[0\].settings: expected/);
  });
});

describe('parseTuning', () => {
  const good = '- {name: a, settings: {download: 10Mbit}}';

  it('keeps the last good entries of a kind with a bad one, and only of that kind', () => {
    const first = parseTuning(desired({ wan: good, tags: '- {name: t, settings: {quorum: 1}}' }), {});
    const second = parseTuning(
      desired({
        wan: `${good}\n- {name: b, settings: {download: fast}}`,
        tags: '- {name: t, settings: {quorum: 3}}',
      }),
      first.texts,
    );
    expect(settingsFor(second.table, {})).toEqual({ wan: { download: '10Mbit' }, tags: { quorum: 3 } });
    expect(second.problems).toEqual([
      {
        source: 'tuning.yaml:1',
        message: expect.stringMatching(/^tuning wan, line 2: .*not a rate.*last good entries stay in force/),
      },
    ]);
    // Again bad: what was good two documents ago still counts.
    const third = parseTuning(desired({ wan: '- nonsense' }), second.texts);
    expect(settingsFor(third.table, {})).toEqual({ wan: { download: '10Mbit' } });
  });

  it('a kind, or the whole document, that is gone is at its defaults', () => {
    const first = parseTuning(desired({ wan: good }), {});
    expect(parseTuning(desired({}), first.texts)).toEqual({ table: {}, texts: {}, problems: [] });
    expect(parseTuning(undefined, first.texts)).toEqual({ table: {}, texts: {}, problems: [] });
  });

  it('an unknown kind is a problem with a suggestion, and harms no other', () => {
    const { table, problems } = parseTuning(desired({ wna: good, wan: good }), {});
    expect(settingsFor(table, {})).toEqual({ wan: { download: '10Mbit' } });
    expect(problems).toEqual([
      { source: 'tuning.yaml:1', message: 'unknown tuning kind "wna"; did you mean "wan"?' },
    ]);
  });

  it('never throws, whatever the text', () => {
    fc.assert(
      fc.property(fc.string(), fc.string({ unit: fc.constantFrom(...'-{}[]:, \nwanmeskyin1"') }), (a, b) => {
        const { problems } = parseTuning(desired({ wan: a, swarm: b }), { wan: b, swarm: a });
        expect(Array.isArray(problems)).toBe(true);
      }),
      { seed: 42, numRuns: 300 },
    );
  });
});

const rates = fc.constantFrom('1Mbit', '2Mbit', '3Mbit');
const settings: fc.Arbitrary<TuningSettings> = fc.record(
  {
    wan: fc.record(
      { download: rates, prefetchDownload: rates, connections: fc.integer({ min: 1, max: 3 }) },
      { requiredKeys: [] },
    ),
    lan: fc.record({ upload: rates, download: rates }, { requiredKeys: [] }),
    tags: fc.record({ quorum: fc.integer({ min: 1, max: 3 }) }, { requiredKeys: [] }),
    logLevel: fc.constantFrom('debug' as const, 'warn' as const),
  },
  { requiredKeys: [] },
);
const zones = ['a', 'b', 'c'];
const entry: fc.Arbitrary<TuningEntry> = fc.record({
  name: fc.constant('e'),
  match: fc.oneof(
    fc.constant([]),
    fc.constantFrom(...zones).map((value) => [{ key: 'zone', operator: 'In' as const, value }]),
    fc.constantFrom(...zones).map((value) => [{ key: 'zone', operator: 'NotIn' as const, value }]),
  ),
  settings,
});

/** Every leaf by its path, the plain way to say "field by field". */
function leaves(value: object, prefix = ''): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, each]) =>
      typeof each === 'object' && each !== null && !Array.isArray(each)
        ? Object.entries(leaves(each, `${prefix}${key}.`))
        : [[`${prefix}${key}`, each]],
    ),
  );
}

describe('settingsFor', () => {
  it('later entries win field by field; entries for other nodes do not matter, wherever they stand', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 8 }), fc.constantFrom(...zones), (entries, zone) => {
        const labels = { zone };
        const own = entries.filter(({ match }) =>
          match.every(({ operator, value }) => (operator === 'In' ? value === zone : value !== zone)),
        );
        const expected = Object.assign({}, ...own.map((each) => leaves(each.settings)));
        expect(leaves(settingsFor({ wan: entries }, labels))).toEqual(expected);
        // Others moved to the end, or taken out: the same.
        const others = entries.filter((each) => !own.includes(each));
        expect(leaves(settingsFor({ wan: [...own, ...others] }, labels))).toEqual(expected);
        expect(leaves(settingsFor({ wan: own }, labels))).toEqual(expected);
      }),
      { seed: 42 },
    );
  });
});

describe('poolTuning', () => {
  it('what all have in common and what a node adds make exactly the settings of the node', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 8 }),
        fc.array(fc.constantFrom(...zones), { minLength: 1, maxLength: 6 }),
        (entries, placed) => {
          const members = placed.map((zone, index) => member(`n${index}`, { zone }));
          const message = poolTuning({ wan: entries }, pool, members);
          for (const { node, labels } of members) {
            const merged = mergeTuning(message.settings, message.nodes[node] ?? {});
            expect(leaves(merged)).toEqual(leaves(settingsFor({ wan: entries }, labels)));
            expect(() => resolveTuning(tuningSettings.parse(merged))).not.toThrow();
          }
        },
      ),
      { seed: 42 },
    );
  });

  it('the value of most nodes is the common one, so that differences stay few', () => {
    const entries: TuningEntry[] = [
      { name: 'all', match: [], settings: { wan: { download: '1Mbit' } } },
      { name: 'one', match: [{ key: 'fat', operator: 'Exists' }], settings: { wan: { download: '9Mbit' } } },
    ];
    const members = ['n1', 'n2', 'n3'].map((name, index) => member(name, index === 0 ? { fat: '' } : {}));
    const message = poolTuning({ wan: entries }, pool, members);
    expect(message.settings).toEqual({ wan: { download: '1Mbit' } });
    expect(message.nodes).toEqual({ n1: { wan: { download: '9Mbit' } } });
  });

  it('an empty pool is tuned by its own label', () => {
    const entries: TuningEntry[] = [
      {
        name: 'a',
        match: [{ key: POOL, operator: 'In', value: 'hangzhou' }],
        settings: { tags: { quorum: 3 } },
      },
    ];
    expect(poolTuning({ tags: entries }, pool, []).settings).toEqual({ tags: { quorum: 3 } });
  });

  it('resolves gateways to names, and knows when a selector fits nobody', () => {
    const swarm: TuningEntry[] = [
      {
        name: 'gw',
        match: [],
        settings: { swarm: { gateways: [{ key: 'uplink', operator: 'In', values: ['fibre'] }] } },
      },
    ];
    const members = [member('n1'), member('n2', { uplink: 'fibre' }), member('n3', { uplink: 'radio' })];
    expect(poolTuning({ swarm }, pool, members).gateways).toEqual(['n2']);
    const none = poolTuning({ swarm }, pool, [member('n1')]);
    expect(none.gateways).toEqual([]);
    expect(wantsGateways(none)).toBe(true);
    expect(wantsGateways(poolTuning({}, pool, members))).toBe(false);
  });

  it('the hash follows content and nothing else', () => {
    const a: TuningEntry[] = [
      { name: 'x', match: [], settings: { wan: { download: '1Mbit', connections: 2 } } },
    ];
    const b: TuningEntry[] = [
      { name: 'y', match: [], settings: { wan: { connections: 2, download: '1Mbit' } } },
    ];
    const c: TuningEntry[] = [
      { name: 'x', match: [], settings: { wan: { download: '2Mbit', connections: 2 } } },
    ];
    const hashOf = (wan: TuningEntry[]): string => poolTuning({ wan }, pool, [member('n1')]).hash;
    expect(hashOf(a)).toBe(hashOf(b));
    expect(hashOf(a)).not.toBe(hashOf(c));
  });
});
