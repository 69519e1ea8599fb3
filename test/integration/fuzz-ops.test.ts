import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { OpsServer } from '../../edge/ops/ops-server.ts';
import { systemClock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { silentLogger } from '../../shared/log.ts';
import {
  bombard,
  GROWTH_BYTES,
  hostilePath,
  hostileRequests,
  INPUTS,
  inputs,
  MANY,
  SLOWEST_MS,
  shoot,
  shown,
} from '../support/fuzz.ts';

const directory = mkdtempSync(join(tmpdir(), 'fuzz-ops-'));
const socket = join(directory, 'ops.sock');
const missing = (): never => {
  throw new TidepoolError('MANIFEST_UNKNOWN', 'there is no such image');
};
const STATUS: Partial<AgentStatus> = {
  node: 'n1',
  members: [],
  registries: [],
  transfers: [],
  prefetches: [],
};
const server = new OpsServer(
  {
    clock: systemClock,
    log: silentLogger(),
    sources: {
      health: () => [{ name: 'index', ok: true, detail: 'answers' }],
      readiness: () => [],
      status: () => Object(STATUS),
      blobs: () => ({ total: 0, blobs: [] }),
      selfTest: async () => missing(),
      pull: async () => missing(),
      manifest: async () => missing(),
    },
  },
  { host: '127.0.0.1', port: 0, socket },
);
beforeAll(() => server.start());
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

const paths = fc.oneof(
  fc.constantFrom(
    '/v1/pull',
    '/v1/pull',
    '/v1/manifest?image=app',
    '/v1/self-test',
    '/v1/status',
    '/healthz',
  ),
  hostilePath(['/', '/v1/', '/v1/blobs', '/v1/manifest?image=', '/v1/pull', '/healthz', '']),
);

describe(`the ops API under ${MANY} malformed requests`, () => {
  it.each(['port', 'socket'] as const)(
    'answers or refuses each at once, and serves on (%s)',
    async (door) => {
      const seed = door === 'port' ? 61_821 : 61_822;
      const json = fc.constant(['Content-Type', 'application/json'] as const);
      const given = inputs(`the ops ${door}`, hostileRequests(paths, json), seed, INPUTS / 2);
      const { port } = server.address();
      const to = door === 'port' ? { port, host: '127.0.0.1' } : { path: socket };
      const outcome = await bombard(given, (bytes) => shoot(to, bytes), shown);
      console.log(JSON.stringify({ ...outcome, slowest: undefined }));
      expect(outcome.unhandled).toEqual([]);
      expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
      expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
      for (const status of ['408', '429', '500']) expect(outcome.statuses).not.toHaveProperty(status);
      expect(await (await fetch(`http://127.0.0.1:${port}/healthz`)).json()).toMatchObject({ ok: true });
    },
  );
});
