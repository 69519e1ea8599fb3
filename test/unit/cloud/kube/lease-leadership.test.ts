import { beforeEach, describe, expect, it } from 'vitest';
import type { KubeApi } from '../../../../cloud/kube/kube-client.ts';
import { KubeError } from '../../../../cloud/kube/kube-error.ts';
import { LeaseLeadership } from '../../../../cloud/kube/lease-leadership.ts';
import { parseLease } from '../../../../cloud/kube/lease-record.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

interface Stored {
  metadata: { resourceVersion: string };
}

let clock: ManualClock;
let lease: Stored | undefined;
let version: number;
let answers: boolean;
let writes: number;

/** A lease that is kept compare-and-swap; while it does not `answer`, requests fail. */
const api: KubeApi = {
  server: 'https://api.test',
  list: () => Promise.reject(new Error('not here')),
  watch: () => Promise.reject(new Error('not here')),
  async json(method, { body }) {
    if (!answers) throw new KubeError('no answer', { httpStatus: 0 });
    if (method === 'GET') {
      if (lease === undefined) throw new KubeError('none', { httpStatus: 404 });
      return lease;
    }
    const given = body as Stored;
    if (given.metadata.resourceVersion !== lease?.metadata.resourceVersion) {
      throw new KubeError('modified', { httpStatus: 409 });
    }
    writes++;
    lease = { ...given, metadata: { ...given.metadata, resourceVersion: String(++version) } };
    return lease;
  },
};
const hub = (identity: string): LeaseLeadership =>
  new LeaseLeadership(
    { clock, log: silentLogger(), client: api, nextEpoch: async (floor) => floor },
    { namespace: 'n', name: 'l', identity, api: () => `${identity}:1`, random: () => 0 },
  );
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const pass = async (ms: number): Promise<void> => {
  for (let gone = 0; gone < ms; gone += 500) {
    clock.advance(500);
    await settle();
  }
};

beforeEach(() => {
  clock = new ManualClock();
  lease = undefined;
  version = 0;
  answers = true;
  writes = 0;
});

describe('LeaseLeadership', () => {
  it('leads at once where there is no lease, and renews it every 2 s', async () => {
    const a = hub('a');
    await a.start();
    await settle();
    expect(a.leads).toBe(true);
    await pass(20_000);
    expect(a.leads).toBe(true);
    expect(writes).toBe(11);
    await a.stop();
    expect(parseLease(lease).holder).toBe('');
  });

  it('has lost the lease 10 s after the last renewal, by its own clock and without anybody telling', async () => {
    const a = hub('a');
    await a.start();
    await settle();
    let told = 0;
    a.onChange(() => told++);
    answers = false;
    // The process stands still: no timer runs, only time goes on.
    const before = clock.mono();
    clock.mono = () => before + 10_001;
    expect(a.leads).toBe(false);
    expect(a.epoch).toBeUndefined();
    expect(told).toBe(0);
    await a.stop();
    // What it no longer has it does not give up either.
    expect(parseLease(lease).holder).toBe('a');
  });

  it('tells when it is lost, and another hub begins only 15 s after the last renewal that it saw', async () => {
    const a = hub('a');
    const b = hub('b');
    await a.start();
    await settle();
    await b.start();
    await settle();
    expect([a.leads, b.leads, b.leader?.identity]).toEqual([true, false, 'a']);
    const epoch = a.epoch ?? 0;
    const lost: number[] = [];
    a.onChange(() => lost.push(clock.mono()));
    // Cut off, both: then only b gets through again.
    answers = false;
    await pass(10_500);
    expect(a.leads).toBe(false);
    expect(lost).toEqual([10_000]);
    await a.stop();
    answers = true;
    await pass(3_000);
    expect(b.leads).toBe(false);
    await pass(4_000);
    expect(b.leads).toBe(true);
    expect(b.epoch).toBeGreaterThan(epoch);
    await b.stop();
  });

  it('a lease that another hub has written over is lost at once', async () => {
    const a = hub('a');
    await a.start();
    await settle();
    lease = { ...(lease as Stored), metadata: { ...lease?.metadata, resourceVersion: String(++version) } };
    Object.assign(lease, { spec: { holderIdentity: 'thief', leaseDurationSeconds: 15, renewTime: 'x' } });
    await pass(2_000);
    expect(a.leads).toBe(false);
    expect(a.problem).toBeUndefined();
    await a.stop();
    expect(parseLease(lease).holder).toBe('thief');
  });
});
