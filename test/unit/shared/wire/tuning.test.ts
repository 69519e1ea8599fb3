import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TuningSettings } from '../../../../shared/wire/messages.ts';
import { mergeTuning, resolveTuning } from '../../../../shared/wire/tuning.ts';

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
      wan: { download: undefined, prefetchDownload: undefined, connections: 16 },
      lan: { upload: undefined, download: undefined },
      swarm: { weight: 1, upstream: [] },
      tags: { policy: 'stale-if-offline', quorum: 1 },
      prefetch: { concurrency: 2 },
      logLevel: undefined,
    });
  });

  it('turns text into numbers, and keeps a weight of 0', () => {
    expect(
      resolveTuning({
        wan: { download: '20Mbit', prefetchDownload: '8Mbit', connections: 3 },
        lan: { upload: '1Gbit', download: '2MB' },
        swarm: { weight: 0, upstream: ['10.0.0.1:6181'] },
        tags: { policy: 'pinned', quorum: 3 },
        prefetch: { concurrency: 5 },
        logLevel: 'trace',
      }),
    ).toEqual({
      wan: { download: 2_500_000, prefetchDownload: 1_000_000, connections: 3 },
      lan: { upload: 125_000_000, download: 2_000_000 },
      swarm: { weight: 0, upstream: ['10.0.0.1:6181'] },
      tags: { policy: 'pinned', quorum: 3 },
      prefetch: { concurrency: 5 },
      logLevel: 'trace',
    });
  });

  it('refuses a rate that is none', () => {
    expect(() => resolveTuning({ lan: { upload: 'fast' } })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
