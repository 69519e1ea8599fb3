import { describe, expect, it } from 'vitest';
import { parsePlatform } from '../../../../edge/prefetch/platform.ts';
import { isOtherPlatform, pullImage } from '../../../../edge/prefetch/pull-image.ts';
import type { PullProgress } from '../../../../edge/prefetch/tally.ts';
import { PRIORITY } from '../../../../edge/transfer/types.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { parseImageRef } from '../../../../shared/image-ref.ts';
import { FillingContent, never } from '../../../support/filling-content.ts';

const NAME = 'reg.example/app';
const blob = (n: number, size: number) => ({ digest: digestOf(Buffer.from(`blob ${n}`)), size });
const BLOBS = [blob(0, 10), blob(1, 1000), blob(2, 2000), blob(3, 3000), blob(4, 4000)];
const amd64 = parsePlatform('linux/amd64');
const arm64 = parsePlatform('linux/arm64');
const INDEX = 'application/vnd.oci.image.index.v1+json';

function pull(content: FillingContent, options: Partial<Parameters<typeof pullImage>[1]> = {}) {
  return pullImage({ content }, { image: parseImageRef(`${NAME}:v1`), platforms: [amd64], ...options });
}

describe('pullImage', () => {
  it('fills config and layers, three at a time, as prefetch', async () => {
    const content = new FillingContent();
    const digest = content.addImage(`${NAME}:v1`, BLOBS);
    const seen: PullProgress[] = [];
    content.onFill = async (request, size) => {
      request.onProgress?.({ wanBytes: size / 2, peerBytes: 0, localBytes: 0 }, size);
      await new Promise((resolve) => setImmediate(resolve));
      return { wanBytes: size / 2, peerBytes: size / 2 };
    };
    const credentials = { username: 'u', password: 'p' };
    const result = await pull(content, { onProgress: (progress) => seen.push(progress), credentials });
    expect(result).toEqual({
      digest,
      manifests: [],
      totalBytes: 10_010,
      doneBytes: 10_010,
      wanBytes: 5005,
      peerBytes: 5005,
      blobs: 5,
      blobsDone: 5,
    });
    expect(content.peak).toBe(3);
    expect(new Set(content.fills.map(({ digest: filled }) => filled))).toEqual(
      new Set(BLOBS.map(({ digest: wanted }) => wanted)),
    );
    expect(content.fills[0]).toMatchObject({
      registry: 'reg.example',
      repository: 'app',
      priority: PRIORITY.prefetch,
      credentials,
    });
    expect(seen[0]).toMatchObject({ totalBytes: 10_010, doneBytes: 0 });
    expect(seen.map(({ doneBytes }) => doneBytes)).toEqual(
      seen.map(({ doneBytes }) => doneBytes).sort((a, b) => a - b),
    );
  });

  it('takes of an index the platforms that are wanted, and asks for the index as it is', async () => {
    const content = new FillingContent();
    const shared = blob(9, 7);
    const ours = content.addImage(undefined, [blob(0, 10), shared], { extra: 'amd64' });
    const other = content.addImage(undefined, [blob(1, 20), shared], { extra: 'arm64' });
    const entry = (digest: string, architecture: string) => ({
      digest,
      size: 1,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      platform: { os: 'linux', architecture },
    });
    const index = JSON.stringify({ manifests: [entry(other, 'arm64'), entry(ours, 'amd64')] });
    const root = content.addManifest(Buffer.from(index), INDEX, `${NAME}:v1`, 1234);
    const result = await pull(content);
    expect(result).toMatchObject({
      digest: root,
      manifests: [ours],
      totalBytes: 17,
      blobs: 2,
      staleSince: 1234,
    });
    expect(content.requests.map(({ what }) => what)).toEqual(['manifest v1', `manifest ${ours}`]);
    const both = await pull(content, { platforms: [amd64, arm64, amd64] });
    expect(both).toMatchObject({ manifests: [ours, other], totalBytes: 37, blobs: 3 });
    const failure = await pull(content, { platforms: [parsePlatform('linux/s390x')] }).catch(
      (error: unknown) => error,
    );
    expect(isOtherPlatform(failure)).toBe(true);
    expect(String(failure)).toContain('it is for linux/arm64, linux/amd64');
  });

  it('asks for the digest where one is pinned', async () => {
    const content = new FillingContent();
    const digest = content.addImage(undefined, BLOBS.slice(0, 1));
    await pull(content, { image: parseImageRef(`${NAME}:v1@${digest}`) });
    expect(content.requests[0]?.what).toBe(`manifest ${digest}`);
  });

  it('fails with the first failure, and leaves nothing under way', async () => {
    const content = new FillingContent();
    content.addImage(`${NAME}:v1`, BLOBS);
    content.onFill = async ({ digest, signal }) => {
      if (digest === BLOBS[1]?.digest) throw new TidepoolError('DIGEST_MISMATCH', 'wrong bytes');
      return never(signal);
    };
    await expect(pull(content)).rejects.toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(content.active).toBe(0);
    expect(content.fills).toHaveLength(3);
  });

  it('ends when it is called off', async () => {
    const content = new FillingContent();
    content.addImage(`${NAME}:v1`, BLOBS);
    content.onFill = ({ signal }) => never(signal);
    const controller = new AbortController();
    const pulling = pull(content, { signal: controller.signal });
    setImmediate(() => controller.abort(new TidepoolError('ABORTED', 'enough')));
    await expect(pulling).rejects.toThrow('enough');
    expect(content.active).toBe(0);
    await expect(pull(content, { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
  });
});
