import { describe, expect, it } from 'vitest';
import { runUpgradePrefetch } from '../../../../cloud/cli/helm-hook.ts';
import type { HubClient } from '../../../../cloud/cli/hub-client.ts';
import { runCli } from '../../../../cloud/cli/program.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import type { PrefetchDetailView, PrefetchRequest } from '../../../../shared/wire/api.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const view = (counts: Partial<PrefetchDetailView>): PrefetchDetailView => ({
  id: 'tidepool-agent-upgrade',
  images: ['r.example/agent:2'],
  suspend: false,
  desired: 3,
  active: 0,
  succeeded: 0,
  failed: 0,
  skipped: 0,
  waiting: 0,
  offline: 0,
  bytes: { total: 0, done: 0, wan: 0, peer: 0 },
  pools: [],
  poolCount: 0,
  failedNodes: [],
  problems: [],
  nodes: [],
  ...counts,
});

const row = (node: string, state: 'succeeded' | 'failed' | 'waiting', message?: string) => ({
  id: 'tidepool-agent-upgrade',
  generation: 1,
  node,
  pool: 'p',
  online: true,
  state,
  totalBytes: 0,
  doneBytes: 0,
  wanBytes: 0,
  peerBytes: 0,
  ...(message === undefined ? {} : { error: { code: 'NOT_FOUND', message } }),
});

async function run(client: Pick<HubClient, 'createPrefetch' | 'prefetch'>, timeoutMs = 600_000) {
  let text = '';
  const io = {
    stdout: {
      write: (more: string) => {
        text += more;
      },
    },
    stderr: { write: () => undefined },
    signal: new AbortController().signal,
  };
  const clock = new SkippingClock();
  const begun = clock.mono();
  const code = await runUpgradePrefetch({ client, clock, io }, { image: 'r.example/agent:2', timeoutMs });
  return { code, text, tookMs: clock.mono() - begun };
}

describe('prefetch before an upgrade', () => {
  it('asks once, and waits for the nodes that are there', async () => {
    const requests: PrefetchRequest[] = [];
    const views = [
      view({ active: 2, waiting: 1 }),
      view({ active: 1, succeeded: 1, offline: 1 }),
      view({ succeeded: 2, offline: 1, nodes: [row('n1', 'succeeded'), row('n3', 'waiting')] }),
    ];
    const { code, text } = await run({
      createPrefetch: async (request) => {
        requests.push(request);
        return view({ waiting: 3 });
      },
      prefetch: async () => views.shift() ?? view({}),
    });
    expect(requests).toEqual([{ id: 'tidepool-agent-upgrade', images: [{ image: 'r.example/agent:2' }] }]);
    expect(views.length).toBe(0);
    expect(code).toBe(0);
    expect(text).toBe('r.example/agent:2: on 2 of 3 nodes before the upgrade\n  n3: waiting\n');
  });

  it('gives up in time, and names who is behind and why', async () => {
    const slow = view({ active: 1, failed: 1, nodes: [row('n1', 'failed', 'no such image')] });
    const { code, text, tookMs } = await run(
      { createPrefetch: async () => slow, prefetch: async () => slow },
      30_000,
    );
    expect(code).toBe(0);
    expect(text).toContain('n1: failed, no such image');
    expect(tookMs).toBeLessThan(40_000);
  });

  it('lets the upgrade go on without a hub, and says so', async () => {
    const away = async (): Promise<never> => {
      throw new TidepoolError('HUB_UNREACHABLE', 'no answer from the hub');
    };
    const { code, text } = await run({ createPrefetch: away, prefetch: away });
    expect(code).toBe(0);
    expect(text).toContain('each node pulls it by itself: no answer from the hub');
  });

  it('goes on where nothing says yet by which authority the hub is known', async () => {
    let text = '';
    const io = {
      stdout: {
        write: (more: string) => {
          text += more;
        },
      },
      stderr: { write: () => undefined },
      signal: new AbortController().signal,
    };
    const flags = ['--hub=https://127.0.0.1:1', '--ca=/nonexistent/ca.pem', '--token=any'];
    expect(await runCli(['helm-hook', 'prefetch', 'r.example/agent:2', ...flags], '0.1.0', io)).toBe(0);
    expect(text).toMatch(/r\.example\/agent:2 is not brought ahead of the upgrade.*nothing says which hub/);
  });
});
