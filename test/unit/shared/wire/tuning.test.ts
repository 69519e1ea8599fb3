import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  type TuningSettings,
  tuningMessage,
  tuningSettings,
  unknownSettings,
} from '../../../../shared/wire/messages/tuning.ts';
import { mergeTuning, resolveTuning, SETTING_DEFAULTS } from '../../../../shared/wire/tuning.ts';

const settings: fc.Arbitrary<TuningSettings> = fc.record(
  {
    wan: fc.record(
      { download: fc.constantFrom('1Mbit', '2Mbit'), connections: fc.integer({ min: 1, max: 64 }) },
      { requiredKeys: [] },
    ),
    swarm: fc.record(
      {
        weight: fc.integer({ min: 0, max: 100 }),
        upstream: fc.array(fc.constantFrom('10.0.0.1:6181', '10.0.0.2:6181'), { maxLength: 2 }),
      },
      { requiredKeys: [] },
    ),
    prefetch: fc.record({ concurrency: fc.integer({ min: 1, max: 16 }) }, { requiredKeys: [] }),
    logLevel: fc.constantFrom('debug' as const, 'info' as const),
  },
  { requiredKeys: [] },
);

describe('mergeTuning', () => {
  it('lets the later layer win field by field, and replaces lists', () => {
    expect(
      mergeTuning(
        { wan: { download: '1Mbit', connections: 4 }, swarm: { upstream: ['10.0.0.1:1', '10.0.0.2:1'] } },
        { wan: { download: '2Mbit' }, swarm: { upstream: ['10.0.0.3:1'] } },
        { logLevel: 'debug' },
      ),
    ).toEqual({
      wan: { download: '2Mbit', connections: 4 },
      swarm: { upstream: ['10.0.0.3:1'] },
      logLevel: 'debug',
    });
  });

  it('is associative, leaves nothing for an empty layer to change, and does not touch its layers', () => {
    fc.assert(
      fc.property(settings, settings, settings, (a, b, c) => {
        const before = structuredClone([a, b, c]);
        expect(mergeTuning(mergeTuning(a, b), c)).toEqual(mergeTuning(a, mergeTuning(b, c)));
        expect(mergeTuning(a, b, c)).toEqual(mergeTuning(mergeTuning(a, b), c));
        expect(mergeTuning({}, a, {}, a)).toEqual(a);
        expect([a, b, c]).toEqual(before);
      }),
      { seed: 42 },
    );
  });
});

describe('resolveTuning', () => {
  it('has a value for every field', () => {
    expect(resolveTuning({})).toEqual({
      wan: {
        download: undefined,
        prefetchDownload: undefined,
        connections: 16,
        prefetchWindows: [],
        prefetchDailyBudget: undefined,
        prefetchTimezone: 'UTC',
      },
      lan: { upload: undefined, download: undefined },
      swarm: { weight: 1, upstream: [] },
      tags: { policy: 'stale-if-offline', quorum: undefined, offlineAccess: 'granted' },
      cache: { quota: undefined, minReplicas: 2, shareRuntime: true, keepTwice: false },
      prefetch: { concurrency: 2 },
      registries: {},
      runtime: { originFallback: undefined },
      logLevel: undefined,
    });
  });

  it('turns text into numbers, and keeps a weight of 0', () => {
    expect(
      resolveTuning({
        wan: {
          download: '20Mbit',
          prefetchDownload: '8Mbit',
          connections: 3,
          prefetchDailyBudget: '2Gi',
          prefetchTimezone: 'Asia/Shanghai',
          prefetchWindows: [
            { days: ['tue', 'mon', 'tue'], start: '22:00', end: '05:30' },
            { start: '0:00', end: '24:00', timezone: 'Europe/Berlin' },
          ],
        },
        lan: { upload: '1Gbit', download: '2MB' },
        swarm: { weight: 0, upstream: ['10.0.0.1:6181'] },
        tags: { policy: 'pinned', quorum: 3 },
        prefetch: { concurrency: 5, followWorkloads: true },
        registries: { 'docker.io': { url: 'https://mirror.example' } },
        runtime: { originFallback: false },
        logLevel: 'trace',
      }),
    ).toEqual({
      wan: {
        download: 2_500_000,
        prefetchDownload: 1_000_000,
        connections: 3,
        prefetchDailyBudget: 2 * 1024 ** 3,
        prefetchTimezone: 'Asia/Shanghai',
        prefetchWindows: [
          { days: [0, 1], start: 1320, end: 330, timezone: 'Asia/Shanghai' },
          { days: [0, 1, 2, 3, 4, 5, 6], start: 0, end: 1440, timezone: 'Europe/Berlin' },
        ],
      },
      lan: { upload: 125_000_000, download: 2_000_000 },
      swarm: { weight: 0, upstream: ['10.0.0.1:6181'] },
      tags: { policy: 'pinned', quorum: 3, offlineAccess: 'granted' },
      cache: { quota: undefined, minReplicas: 2, shareRuntime: true, keepTwice: false },
      prefetch: { concurrency: 5 },
      registries: { 'docker.io': 'https://mirror.example' },
      runtime: { originFallback: false },
      logLevel: 'trace',
    });
  });

  it('takes caps and budgets back by a word', () => {
    const none = { wan: { download: 'none', prefetchDailyBudget: 'none' }, lan: { upload: 'none' } };
    expect(resolveTuning(mergeTuning({ wan: { download: '1Mbit' } }, none))).toEqual(resolveTuning({}));
  });

  it.each([
    { lan: { upload: 'fast' } },
    { wan: { prefetchDailyBudget: 'much' } },
    { wan: { prefetchTimezone: 'Moon/Tycho' } },
    { wan: { prefetchWindows: [{ start: '25:00', end: '26:00' }] } },
    { wan: { prefetchWindows: [{ start: '24:00', end: '01:00' }] } },
  ] satisfies TuningSettings[])('refuses what is none: %j', (bad) => {
    expect(() => resolveTuning(bad)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('has a default in words for every setting, and for nothing else', () => {
    const paths = Object.entries(tuningSettings.shape).flatMap(([kind, schema]) => {
      const inner = schema.unwrap();
      return inner instanceof z.ZodObject ? Object.keys(inner.shape).map((key) => `${kind}.${key}`) : [kind];
    });
    expect(Object.keys(SETTING_DEFAULTS).sort()).toEqual(paths.sort());
  });
});

describe('settings over the wire', () => {
  const told = (settings: object) =>
    tuningMessage.safeParse({ epoch: 1, version: 1, hash: 'h', settings, nodes: { n1: settings } });

  it('keep what this version does not know, and name it', () => {
    const newer = {
      wan: { download: '1Mbit', jitter: 5, prefetchWindows: [{ start: '01:00', end: '02:00', soft: true }] },
      moon: { phase: 'full' },
    };
    const result = told(newer);
    expect(result.data?.settings).toEqual(newer);
    expect(result.data?.nodes.n1).toEqual(newer);
    expect(unknownSettings(newer)).toEqual(['moon', 'wan.jitter', 'wan.prefetchWindows.0.soft']);
    expect(resolveTuning(mergeTuning(newer as TuningSettings))).toEqual(
      resolveTuning({
        wan: { download: '1Mbit', prefetchWindows: [{ start: '01:00', end: '02:00' }] },
      }),
    );
  });

  it('are refused where a field that is known makes no sense', () => {
    expect(told({ wan: { connections: 1000 }, moon: 1 }).error?.issues[0]?.path).toEqual([
      'settings',
      'wan',
      'connections',
    ]);
    expect(told({ tags: { policy: 'later' } }).success).toBe(false);
  });

  it('never reach the prototype of what they are merged into', () => {
    const evil = JSON.parse('{"__proto__": {"wan": {"download": "1Mbit"}}}');
    expect(mergeTuning(evil, {}).wan).toBeUndefined();
  });
});
