import { describe, expect, it } from 'vitest';
import type { Credentials } from '../../../../edge/origin/types.ts';
import { parsePlatform } from '../../../../edge/prefetch/platform.ts';
import { PrefetchRunner } from '../../../../edge/prefetch/prefetch-runner.ts';
import { type ErrorCode, TidepoolError } from '../../../../shared/errors.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { PrefetchMessage, PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import { FillingContent, MemoryDocuments } from '../../../support/filling-content.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const ACCOUNT: Credentials = { username: 'puller', password: 'secret-of-the-puller' };
const layer = (name: string) => ({ digest: digestOf(Buffer.from(name)), size: 10 });

function job(more: Partial<PrefetchMessage> = {}): PrefetchMessage {
  return {
    epoch: 1,
    id: 'web',
    generation: 7,
    images: [{ image: 'reg.example/a:v1' }, { image: 'reg.example/b:v1' }, { image: 'public.example/c:v1' }],
    suspend: false,
    timeoutMs: 600_000,
    retries: 1,
    credentials: true,
    ...more,
  };
}

/** Everything that waits for nothing but promises has happened. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function fixture() {
  const content = new FillingContent();
  const clock = new ManualClock();
  const documents = new MemoryDocuments();
  const reports: PrefetchProgress[] = [];
  const runtimeAccounts: (Credentials | undefined)[] = [];
  const asked: string[] = [];
  /** Of the hub; undefined: it answers. */
  const hub: { failure: ErrorCode | undefined } = { failure: undefined };
  for (const name of ['reg.example/a:v1', 'reg.example/b:v1', 'public.example/c:v1']) {
    content.addImage(name, [layer(name)]);
  }
  // A registry that lets nobody in without the account.
  content.onFill = async ({ registry, credentials }, size) => {
    if (registry === 'reg.example' && credentials?.password !== ACCOUNT.password) {
      throw new TidepoolError('UNAUTHORIZED', 'the registry wants an account');
    }
    return { wanBytes: size };
  };
  const runner = new PrefetchRunner(
    {
      content,
      documents,
      clock,
      log: silentLogger(),
      report: (progress) => reports.push(progress),
      runtime: {
        pull: async (_image, _signal, credentials) => {
          runtimeAccounts.push(credentials);
          return { imageId: 'x' };
        },
      },
      accounts: {
        of: async ({ id, generation }) => {
          asked.push(`${id} ${generation}`);
          if (hub.failure !== undefined) throw new TidepoolError(hub.failure, 'the hub says no');
          return new Map([['reg.example', ACCOUNT]]);
        },
      },
    },
    { node: parseNodeName('n1'), platform: parsePlatform('linux/amd64'), concurrency: 1, random: () => 0.5 },
  );
  return { asked, clock, content, documents, hub, reports, runner, runtimeAccounts };
}

describe('a prefetch of private images', () => {
  it('uses the hub’s account for its own requests to that registry, and keeps it nowhere', async () => {
    const { asked, content, documents, reports, runner, runtimeAccounts } = fixture();
    await runner.start();
    runner.setJobs([job()]);
    await settle();
    expect(reports.at(-1)?.state).toBe('succeeded');
    expect(asked).toEqual(['web 7']);
    const used = content.fills.map(({ registry, credentials }) => [registry, credentials]);
    expect(used).toEqual([
      ['reg.example', ACCOUNT],
      ['reg.example', ACCOUNT],
      ['public.example', undefined],
    ]);
    expect(runtimeAccounts).toEqual([ACCOUNT, ACCOUNT, undefined]);
    await runner.stop();
    expect(JSON.stringify([reports, documents.list('')])).not.toContain(ACCOUNT.password);
  });

  it('asks for none where the hub has none', async () => {
    const { asked, content, runner } = fixture();
    await runner.start();
    runner.setJobs([job({ credentials: undefined, images: [{ image: 'public.example/c:v1' }] })]);
    await settle();
    expect(asked).toEqual([]);
    expect(content.fills).toHaveLength(1);
    await runner.stop();
  });

  it('waits for a hub that is away, and takes what the pool has meanwhile', async () => {
    const { clock, hub, reports, runner } = fixture();
    hub.failure = 'HUB_UNREACHABLE';
    await runner.start();
    runner.setJobs([job({ images: [{ image: 'public.example/c:v1' }, { image: 'reg.example/a:v1' }] })]);
    await settle();
    expect(reports.at(-1)).toMatchObject({
      state: 'waiting',
      doneBytes: 10,
      error: { code: 'HUB_UNREACHABLE' },
    });
    for (let i = 0; i < 5; i++) {
      clock.advance(60 * 60_000);
      await settle();
    }
    expect(reports.at(-1)?.state).toBe('waiting');
    hub.failure = undefined;
    clock.advance(60 * 60_000);
    await settle();
    expect(reports.at(-1)?.state).toBe('succeeded');
    await runner.stop();
  });

  it('says why there was no account, where the registry refuses and the hub has an answer', async () => {
    const { clock, hub, reports, runner } = fixture();
    hub.failure = 'NOT_FOUND';
    await runner.start();
    runner.setJobs([job({ images: [{ image: 'reg.example/a:v1' }] })]);
    for (let i = 0; i < 4; i++) {
      await settle();
      clock.advance(60 * 60_000);
    }
    expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { message: 'the hub says no' } });
    await runner.stop();
  });
});
