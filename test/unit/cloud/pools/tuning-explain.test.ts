import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Member, POOL_LABEL } from '../../../../cloud/pools/membership.ts';
import { downstreamsOf, settingsFor, workOut } from '../../../../cloud/pools/tuning-effective.ts';
import { explain, tuningChanges } from '../../../../cloud/pools/tuning-explain.ts';
import { parseTuning, type TuningTable } from '../../../../cloud/pools/tuning-parse.ts';
import { type PoolName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { mergeTuning, resolveTuning, SETTING_DEFAULTS } from '../../../../shared/wire/tuning.ts';

const tableOf = (data: Record<string, string>): TuningTable => {
  const { table, problems } = parseTuning({ data, source: 't' }, {});
  expect(problems).toEqual([]);
  return table;
};
const alpha = parsePoolName('alpha');
const member = (name: string, pool = alpha, address?: string): Member => ({
  node: parseNodeName(name),
  pool,
  labels: { 'kubernetes.io/hostname': name, [POOL_LABEL]: pool },
  address,
});

const DATA = {
  wan: [
    '- {name: everyone, settings: {download: 50Mbit, prefetch: {download: 4Mbit, dailyBudget: 20Gi}}}',
    '- {name: thin, pool: alpha, settings: {download: 10Mbit, prefetch: {windows: [{start: "1:00", end: "5:00"}], timezone: Asia/Shanghai}}}',
    '- {name: lab, key: kubernetes.io/hostname, value: n2, settings: {download: none, prefetch: {dailyBudget: none}}}',
  ].join('\n'),
  registries:
    '- {name: r, settings: {docker.io: {url: "https://a.example"}, ghcr.io: {url: "https://b.example"}}}\n- {name: s, pool: alpha, settings: {docker.io: {url: "https://c.example"}}}',
};

describe('explain', () => {
  it('names the entry of each value and what it stands over; defaults are marked', () => {
    const rows = explain(tableOf(DATA), member('n2').labels);
    const row = (setting: string) => rows.find((each) => each.setting === setting);
    expect(row('wan.download')).toEqual({
      setting: 'wan.download',
      value: 'none',
      from: { kind: 'wan', entry: 'lab' },
      over: [
        { value: '10Mbit', from: { kind: 'wan', entry: 'thin' } },
        { value: '50Mbit', from: { kind: 'wan', entry: 'everyone' } },
      ],
    });
    expect(row('wan.prefetchDownload')).toMatchObject({ value: '4Mbit', from: { entry: 'everyone' } });
    expect(row('wan.connections')).toEqual({ setting: 'wan.connections', value: 16, from: null, over: [] });
    expect(row('registries.docker.io.url')).toMatchObject({
      value: 'https://c.example',
      from: { entry: 's' },
    });
    expect(row('registries.ghcr.io.url')).toMatchObject({ value: 'https://b.example', over: [] });
    expect(row('registries')).toBeUndefined();
    expect(resolveTuning(settingsFor(tableOf(DATA), member('n2').labels)).wan).toMatchObject({
      download: undefined,
      prefetchDailyBudget: undefined,
      prefetchWindows: [{ start: 60, end: 300, timezone: 'Asia/Shanghai' }],
    });
  });

  it('has every setting once, and the value that merging gives', () => {
    const anyTable = fc.array(
      fc.record({
        node: fc.constantFrom('n1', 'n2', undefined),
        download: fc.constantFrom('1Mbit', '2Mbit', 'none', undefined),
        connections: fc.constantFrom(1, 2, undefined),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(anyTable, fc.constantFrom('n1', 'n2'), (entries, node) => {
        const text = entries.map(({ node: only, ...settings }, index) => ({
          name: `e${index}`,
          ...(only === undefined ? {} : { key: 'kubernetes.io/hostname', value: only }),
          settings,
        }));
        const table = tableOf({ wan: JSON.stringify(text) });
        const { labels } = member(node);
        const wan = settingsFor(table, labels).wan ?? {};
        const rows = explain(table, labels);
        expect(rows.map(({ setting }) => setting)).toEqual(Object.keys(SETTING_DEFAULTS));
        for (const key of ['download', 'connections'] as const) {
          const { value, from } = rows.find(({ setting }) => setting === `wan.${key}`) ?? {};
          if (wan[key] === undefined) expect(from).toBeNull();
          else expect(value).toBe(wan[key]);
        }
      }),
      { seed: 42 },
    );
  });
});

describe('tuningChanges', () => {
  it('puts equal changes of a pool into one row, and sees pools without nodes', () => {
    const pools = new Map([
      [alpha, ['n1', 'n2', 'n3'].map((name) => member(name))],
      [parsePoolName('beta'), []],
    ]);
    const after = tableOf({ ...DATA, wan: DATA.wan.replace('50Mbit', '60Mbit').replace('10Mbit', '12Mbit') });
    expect(tuningChanges(tableOf(DATA), after, { pools })).toEqual([
      {
        pool: 'alpha',
        setting: 'wan.download',
        before: '10Mbit',
        after: '12Mbit',
        nodes: 2,
        sample: ['n1', 'n3'],
      },
      { pool: 'beta', setting: 'wan.download', before: '50Mbit', after: '60Mbit', nodes: 0, sample: [] },
    ]);
    const none = tuningChanges(tableOf(DATA), {}, { pools });
    expect(none.find(({ pool, setting }) => pool === 'beta' && setting === 'wan.download')).toMatchObject({
      before: '50Mbit',
      after: null,
    });
    expect(tuningChanges(after, after, { pools })).toEqual([]);
  });
});

describe('upstream pools', () => {
  const seed = parsePoolName('seed');
  const seeds = Array.from({ length: 20 }, (_, n) => member(`s${n}`, seed, `10.1.0.${n}:6181`));
  const pools = new Map([
    [alpha, [member('n1'), member('n2')]],
    [seed, seeds],
    [parsePoolName('bare'), [member('b1', parsePoolName('bare'))]],
  ]);
  const out = (upstream: string, pool = alpha) =>
    workOut(
      tableOf({ swarm: `- {name: a, settings: {upstream: ${upstream}}}` }),
      pool,
      pools.get(pool) ?? [],
      pools,
    );

  it('are told to agents as addresses, some members to each pool, always the same', () => {
    const { tuning, problems } = out('seed');
    expect(problems).toEqual([]);
    const addresses = tuning.settings.swarm?.upstream ?? [];
    expect(addresses).toHaveLength(8);
    expect(seeds.map(({ address }) => address)).toEqual(expect.arrayContaining(addresses));
    expect(out('seed').tuning.hash).toBe(tuning.hash);
    expect(out('seed', parsePoolName('bare')).tuning.settings.swarm?.upstream).not.toEqual(addresses);
    expect(out('["10.9.9.9:1", seed]').tuning.settings.swarm?.upstream?.[0]).toBe('10.9.9.9:1');
    expect(mergeTuning(tuning.settings, tuning.nodes.n1 ?? {}).swarm?.upstream).toEqual(addresses);
  });

  it('that are not there, have no address, or are the pool itself are problems in words', () => {
    expect(out('seeed').problems).toEqual(['upstream pool "seeed" of pool alpha is unknown']);
    expect(out('bare').problems).toEqual(['no node of bare, the upstream pool of alpha, has an address yet']);
    expect(out('alpha').problems).toEqual(['pool alpha is its own upstream pool; it goes to the origin']);
    expect(out('alpha').tuning.settings.swarm?.upstream).toEqual([]);
  });

  it('know who names them, by name or by a member’s address, and their message says so', () => {
    const table = tableOf({
      swarm:
        `- {name: a, pool: alpha, settings: {upstream: [seed, alpha, nowhere]}}\n` +
        `- {name: b, pool: bare, settings: {upstream: ["10.1.0.7:6181", "10.9.9.9:1"]}}`,
    });
    const below = downstreamsOf(table, pools);
    expect([...below.keys()].sort()).toEqual(['nowhere', 'seed']);
    expect(below.get(seed)).toEqual(['alpha', 'bare']);
    const tuning = (downstreams: readonly PoolName[] | undefined) =>
      workOut(table, seed, seeds, pools, downstreams).tuning;
    expect(tuning(below.get(seed)).downstreams).toEqual(['alpha', 'bare']);
    expect(tuning(below.get(seed)).hash).not.toBe(tuning(undefined).hash);
    expect(tuning(undefined).downstreams).toBeUndefined();
  });
});
