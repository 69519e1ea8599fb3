import { describe, expect, it } from 'vitest';
import { Tuner } from '../../../edge/tuner.ts';
import { parseNodeName } from '../../../shared/ids.ts';
import { silentLogger } from '../../../shared/log.ts';
import type { TuningMessage, TuningSettings } from '../../../shared/wire/messages/tuning.ts';
import type { Tuning } from '../../../shared/wire/tuning.ts';

function fixture(base: TuningSettings = {}, refused: readonly string[] = []) {
  const applied: { tuning: Tuning; gateways: string[]; downstreams: string[] }[] = [];
  const tuner = new Tuner(
    {
      log: silentLogger(),
      apply: (tuning, gateways, downstreams) => {
        applied.push({ tuning, gateways: [...gateways], downstreams: [...downstreams] });
        return refused;
      },
    },
    { node: parseNodeName('n1'), base },
  );
  return { tuner, applied };
}

function message(init: Partial<TuningMessage>): TuningMessage {
  return {
    epoch: 1,
    version: 1,
    hash: 'h1',
    settings: {},
    nodes: {},
    gateways: [],
    downstreams: [],
    ...init,
  };
}

describe('Tuner', () => {
  it("begins with the node's own settings", () => {
    const { tuner, applied } = fixture({ wan: { download: '8Mbit' } });
    expect(applied).toHaveLength(1);
    expect(applied[0]?.tuning.wan.download).toBe(1e6);
    expect(tuner.hash).toBeUndefined();
  });

  it("puts the pool's over them, and over those what is said of this node", () => {
    const { tuner, applied } = fixture({ wan: { download: '8Mbit', connections: 3 }, swarm: { weight: 2 } });
    const settings = { wan: { download: '16Mbit' }, prefetch: { concurrency: 4 } };
    const nodes = { n1: { prefetch: { concurrency: 5 } }, n2: { prefetch: { concurrency: 6 } } };
    expect(tuner.set(message({ settings, nodes, gateways: ['n2'], downstreams: ['below'] }))).toBe(true);
    expect(applied[1]).toMatchObject({
      tuning: { wan: { download: 2e6, connections: 3 }, swarm: { weight: 2 }, prefetch: { concurrency: 5 } },
      gateways: ['n2'],
      downstreams: ['below'],
    });
    expect(tuner.hash).toBe('h1');
  });

  it('takes back what the pool does not say any more', () => {
    const { tuner, applied } = fixture({ wan: { download: '8Mbit' } });
    tuner.set(message({ settings: { wan: { download: '16Mbit' } } }));
    tuner.set(message({ hash: 'h2', version: 2 }));
    expect(applied.map(({ tuning }) => tuning.wan.download)).toEqual([1e6, 2e6, 1e6]);
    expect(tuner.hash).toBe('h2');
  });

  it('says what the node refuses, and what a newer hub says that it does not know', () => {
    const { tuner, applied } = fixture({}, ['registry docker.io stays where it is']);
    const settings = { wan: { download: '16Mbit', jitter: '5s' }, moon: { phase: 1 } };
    expect(tuner.set(message({ settings: settings as TuningSettings }))).toBe(true);
    expect(applied[1]?.tuning.wan.download).toBe(2e6);
    expect(tuner.tuning).toBe(applied[1]?.tuning);
    expect(tuner.problems).toEqual([
      'registry docker.io stays where it is',
      'moon: this agent is too old to know it; the rest is in force',
      'wan.jitter: this agent is too old to know it; the rest is in force',
    ]);
    expect(tuner.set(message({ hash: 'bad', settings: { wan: { download: 'fast' } } }))).toBe(false);
    expect(tuner.problems).toEqual([
      expect.stringMatching(/^cannot be applied: not a rate.*last good tuning/),
    ]);
    tuner.set(message({ hash: 'h3', settings: {} }));
    expect(tuner.problems).toEqual(['registry docker.io stays where it is']);
  });

  it('keeps the last good one when a message cannot be applied, and does not claim it', () => {
    const { tuner, applied } = fixture();
    tuner.set(message({ settings: { wan: { download: '16Mbit' } } }));
    expect(tuner.set(message({ hash: 'bad', settings: { wan: { download: 'fast' } } }))).toBe(false);
    expect(applied).toHaveLength(2);
    expect(tuner.hash).toBe('h1');
  });

  it('tells what parts cannot do on their own time besides what the last message could not', () => {
    let standing: readonly string[] = [];
    const tuner = new Tuner(
      { log: silentLogger(), apply: () => ['refused'], standing: () => standing },
      { node: parseNodeName('n1'), base: {} },
    );
    expect(tuner.problems).toEqual(['refused']);
    standing = ['read-only', ...Array.from({ length: 20 }, () => 'x'.repeat(1_000))];
    expect(tuner.problems.slice(0, 2)).toEqual(['refused', 'read-only']);
    expect(tuner.problems).toHaveLength(10);
    expect(tuner.problems.every((text) => text.length <= 300)).toBe(true);
    standing = [];
    expect(tuner.problems).toEqual(['refused']);
  });
});
