import { beforeAll, beforeEach, expect, it } from 'vitest';
import { KubeError } from '../../../../cloud/kube/kube-error.ts';
import { RootsConfigMap } from '../../../../cloud/kube/roots-config-map.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { readRoots } from '../../../../shared/trust/certificate.ts';
import type { Root } from '../../../../shared/trust/types.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { TestAuthority } from '../../../support/trust.ts';

const LOOK_MS = 300_000;

interface Stored {
  readonly pem: string;
  readonly version: number;
}

let old: Root;
let next: Root;
let clock: ManualClock;
let stored: Stored | undefined;
let calls: string[];
/** Status to refuse the next call of that method with. */
let refusals: { readonly method: string; readonly status: number }[];
let roots: readonly Root[];
let inVault: readonly Root[];
let tell: () => void;
let map: RootsConfigMap;

const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
const pass = async (ms: number): Promise<void> => {
  clock.advance(ms);
  await settle();
};

beforeAll(async () => {
  const made = await Promise.all([TestAuthority.make('old'), TestAuthority.make('next')]);
  const [first, second] = made.flatMap(({ root }) => readRoots(root.cert));
  if (first === undefined || second === undefined) throw new Error('no roots');
  old = first;
  next = second;
});

beforeEach(() => {
  clock = new ManualClock();
  stored = undefined;
  calls = [];
  refusals = [];
  roots = [old];
  inVault = roots;
  const json = async (method: string, request: { readonly path: string; readonly body?: unknown }) => {
    calls.push(`${method} ${request.path}`);
    const refusal = refusals.find((each) => each.method === method);
    if (refusal !== undefined) {
      refusals.splice(refusals.indexOf(refusal), 1);
      throw new KubeError('no', { httpStatus: refusal.status });
    }
    if (method === 'GET') {
      if (stored === undefined) throw new KubeError('none', { httpStatus: 404 });
      return { metadata: { resourceVersion: String(stored.version) }, data: { 'ca.pem': stored.pem } };
    }
    const { data, metadata } = request.body as {
      data: Record<string, string>;
      metadata: { resourceVersion?: string };
    };
    if (metadata.resourceVersion !== (stored === undefined ? undefined : String(stored.version)))
      throw new KubeError('another was quicker', { httpStatus: 409 });
    stored = { pem: data['ca.pem'] ?? '', version: (stored?.version ?? 0) + 1 };
    return {};
  };
  map = new RootsConfigMap(
    {
      clock,
      log: silentLogger(),
      client: { json },
      authority: {
        roots: () => roots,
        onChange: (listener) => {
          tell = listener;
          return () => undefined;
        },
      },
      refresh: async () => {
        roots = inVault;
      },
      random: () => 0.5,
    },
    { namespace: 'tidepool-system', name: 'tidepool-roots' },
  );
  return () => map.stop();
});

it('makes it, without waiting for it at the start, and writes no more while it is right', async () => {
  await map.start();
  await settle();
  expect(stored).toEqual({ pem: old.pem, version: 1 });
  expect(calls).toEqual([
    'GET /api/v1/namespaces/tidepool-system/configmaps/tidepool-roots',
    'POST /api/v1/namespaces/tidepool-system/configmaps',
  ]);
  await pass(LOOK_MS);
  expect(calls.slice(2)).toEqual(['GET /api/v1/namespaces/tidepool-system/configmaps/tidepool-roots']);
});

it('tells of a new root at once, and puts back what somebody has changed or deleted', async () => {
  await map.start();
  await settle();
  roots = inVault = [next, old];
  tell();
  await settle();
  expect(stored?.pem).toBe(`${next.pem}${old.pem}`);
  stored = { pem: 'something else', version: 7 };
  await pass(LOOK_MS);
  expect(stored).toEqual({ pem: `${next.pem}${old.pem}`, version: 8 });
  stored = undefined;
  await pass(LOOK_MS);
  expect(stored).toMatchObject({ pem: `${next.pem}${old.pem}` });
});

it('puts nothing older over what another hub has written', async () => {
  await map.start();
  await settle();
  // The other one has rotated: in the Secret, and here.
  inVault = [next, old];
  stored = { pem: `${next.pem}${old.pem}`, version: 2 };
  await pass(LOOK_MS);
  expect(stored.version).toBe(2);
});

it('tries again what was refused or fails, soon, and what it may not, rarely', async () => {
  refusals.push(
    { method: 'GET', status: 500 },
    { method: 'POST', status: 409 },
    { method: 'POST', status: 403 },
  );
  await map.start();
  await settle();
  expect(stored).toBeUndefined();
  await pass(250);
  expect(calls).toHaveLength(3);
  await pass(500);
  expect(calls).toHaveLength(5);
  await pass(14_999);
  expect(calls).toHaveLength(5);
  await pass(1);
  expect(stored).toEqual({ pem: old.pem, version: 1 });
});
