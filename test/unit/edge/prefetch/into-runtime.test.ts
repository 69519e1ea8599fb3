import { describe, expect, it } from 'vitest';
import { intoRuntime } from '../../../../edge/prefetch/into-runtime.ts';
import type { ManifestAnswer } from '../../../../edge/transfer/types.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { formatImageRef, parseImageRef } from '../../../../shared/image-ref.ts';

const digest = digestOf(Buffer.from('pinned'));
const other = digestOf(Buffer.from('newer'));

function bring(
  written: string,
  init: { pinned?: boolean; now?: string | TidepoolError; absent?: boolean } = {},
) {
  const pulls: string[] = [];
  const outcome = intoRuntime(
    {
      content: {
        manifest: async (): Promise<ManifestAnswer> => {
          if (init.now instanceof TidepoolError) throw init.now;
          return { digest: init.now === undefined ? digest : other, mediaType: 'x', bytes: new Uint8Array() };
        },
      },
      runtime: {
        pull: async (image) => {
          pulls.push(formatImageRef(image));
          return init.absent === true ? undefined : { imageId: 'sha256:id' };
        },
      },
    },
    {
      image: parseImageRef(written),
      written,
      pinned: init.pinned ?? false,
      digest,
      signal: new AbortController().signal,
    },
  );
  return outcome.then((value) => ({ value, pulls }));
}

describe('intoRuntime', () => {
  it('pulls by the name that pods use', async () => {
    expect(await bring('busybox:1')).toEqual({
      value: { image: 'busybox:1', imageId: 'sha256:id' },
      pulls: ['docker.io/library/busybox:1'],
    });
    expect((await bring(`busybox@${digest}`, { pinned: true })).pulls).toEqual([
      `docker.io/library/busybox@${digest}`,
    ]);
  });

  it('pulls a pinned job by tag while the tag is what was pinned, else by digest', async () => {
    expect((await bring('busybox:1', { pinned: true })).pulls).toEqual(['docker.io/library/busybox:1']);
    const moved = await bring('busybox:1', { pinned: true, now: other });
    expect(moved.pulls).toEqual([`docker.io/library/busybox@${digest}`]);
    expect(moved.value?.note).toContain(other);
    const offline = await bring('busybox:1', {
      pinned: true,
      now: new TidepoolError('ORIGIN_UNREACHABLE', 'no uplink'),
    });
    expect(offline.pulls).toEqual([`docker.io/library/busybox@${digest}`]);
    expect(offline.value?.note).toContain('no uplink');
  });

  it('says that the image is in the store alone where there is no socket', async () => {
    const { value } = await bring('busybox:1', { absent: true });
    expect(value).toEqual({ image: 'busybox:1', note: expect.stringContaining('no CRI socket') });
  });
});
