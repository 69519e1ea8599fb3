import { describe, expect, it } from 'vitest';
import type { RuntimeImages } from '../../../../edge/prefetch/into-runtime.ts';
import { PrefetchRunner } from '../../../../edge/prefetch/prefetch-runner.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { formatImageRef } from '../../../../shared/image-ref.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { type PrefetchProgress, prefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import { MAX_MESSAGE_BYTES } from '../../../../shared/wire/topics.ts';
import { FillingContent, MemoryDocuments } from '../../../support/filling-content.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const blob = { digest: digestOf(Buffer.from('blob')), size: 1000 };

async function runJob(
  runtime: RuntimeImages,
  images: readonly string[],
): Promise<PrefetchProgress | undefined> {
  const content = new FillingContent();
  for (const image of images) content.addImage(image, [blob]);
  const clock = new ManualClock();
  const runner = new PrefetchRunner(
    {
      content,
      documents: new MemoryDocuments(),
      clock,
      log: silentLogger(),
      report: () => undefined,
      runtime,
    },
    { node: parseNodeName('n1'), platform: { os: 'linux', architecture: 'amd64' }, random: () => 0.5 },
  );
  await runner.start();
  runner.setJobs([
    {
      epoch: 1,
      id: 'job',
      generation: 1,
      images: images.map((image) => ({ image })),
      suspend: false,
      timeoutMs: 600_000,
      retries: 1,
    },
  ]);
  for (let round = 0; round < 10; round++) {
    for (let turn = 0; turn < 40; turn++) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(70_000);
  }
  const [progress] = runner.progress();
  await runner.stop();
  return progress;
}

describe('a prefetch on a node with a container runtime', () => {
  it('is over once the runtime has the image, by the name that was written', async () => {
    const pulls: string[] = [];
    const progress = await runJob(
      {
        pull: async (image) => {
          pulls.push(formatImageRef(image));
          return { imageId: 'sha256:id' };
        },
      },
      ['reg.example/a:v1'],
    );
    expect(pulls).toEqual(['reg.example/a:v1']);
    expect(progress).toMatchObject({
      state: 'succeeded',
      runtime: [{ image: 'reg.example/a:v1', imageId: 'sha256:id' }],
    });
  });

  it('fails at once where the runtime goes past the mirror, and says what to do', async () => {
    let pulls = 0;
    const progress = await runJob(
      {
        pull: async () => {
          pulls++;
          throw new TidepoolError('RUNTIME_NOT_CONFIGURED', 'set config_path');
        },
      },
      ['reg.example/a:v1'],
    );
    expect(pulls).toBe(1);
    expect(progress).toMatchObject({
      state: 'failed',
      doneBytes: 1000,
      error: { code: 'RUNTIME_NOT_CONFIGURED', message: 'set config_path' },
    });
  });

  it('tries again where the runtime failed for reasons of its own', async () => {
    let pulls = 0;
    const progress = await runJob(
      {
        pull: async () => {
          if (pulls++ === 0) throw new TidepoolError('RUNTIME_ERROR', 'busy');
          return { imageId: 'sha256:id' };
        },
      },
      ['reg.example/a:v1'],
    );
    expect(progress).toMatchObject({ state: 'succeeded' });
    expect(pulls).toBe(2);
  });

  it('says so where there is no socket; what it says fits one message', async () => {
    const name = `reg.example/${'a'.repeat(60)}/${'b'.repeat(120)}`;
    const images = Array.from({ length: 120 }, (_, i) => `${name}${i}:${'t'.repeat(120)}`);
    const progress = await runJob({ pull: async () => undefined }, images);
    expect(progress?.state).toBe('succeeded');
    expect(progress?.runtime?.[0]?.note).toContain('in the store alone');
    expect(prefetchProgress.parse(progress).runtime).toHaveLength(50);
    expect(JSON.stringify(progress).length).toBeLessThan(MAX_MESSAGE_BYTES - 8_192);
  });
});
