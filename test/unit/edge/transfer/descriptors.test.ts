import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readDescriptors } from '../../../../edge/transfer/descriptors.ts';
import { pickRecord } from '../../../../edge/transfer/tags.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { MAX_BLOB_BYTES } from '../../../../shared/pieces.ts';

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));
const refused = expect.objectContaining({ code: 'ORIGIN_LIED' });

function read(document: unknown) {
  const bytes = typeof document === 'string' ? Buffer.from(document) : Buffer.from(JSON.stringify(document));
  return readDescriptors({ digest: digestOf(bytes), bytes });
}

describe('what a manifest names', () => {
  it('is the config and layers of an image, the blobs of an artifact, the manifests of an index', () => {
    const image = read({
      config: { digest: A, size: 1, mediaType: 'c' },
      layers: [{ digest: B, size: 2 }],
      blobs: [{ digest: A, size: 3, mediaType: 'x' }],
    });
    expect(image.blobs.map(({ digest, size, mediaType }) => [digest, size, mediaType])).toEqual([
      [A, 1, 'c'],
      [B, 2, ''],
      [A, 3, 'x'],
    ]);
    const platform = { os: 'linux', architecture: 'arm64', variant: 'v8' };
    const index = read({
      manifests: [
        { digest: A, size: 9, platform },
        { digest: B, size: 9 },
      ],
    });
    expect(index.blobs).toEqual([]);
    expect(index.manifests.map((each) => each.platform)).toEqual([platform, undefined]);
  });

  it('is nothing for kinds that are not known', () => {
    expect(read({ schemaVersion: 1, fsLayers: [{ blobSum: 'x' }] })).toEqual({ blobs: [], manifests: [] });
  });

  it.each([
    ['no JSON', '{"config":'],
    ['no object', '[]'],
    ['nothing', 'null'],
    ['a layer that is none', { layers: ['x'] }],
    ['another digest', { config: { digest: 'md5:1', size: 1 } }],
    ['no size', { config: { digest: A } }],
    ['a size below zero', { config: { digest: A, size: -1 } }],
    ['half a byte', { config: { digest: A, size: 1.5 } }],
    ['a blob larger than any', { layers: [{ digest: A, size: MAX_BLOB_BYTES + 1 }] }],
  ])('with %s is the origin’s lie', (_, document) => {
    expect(() => read(document)).toThrow(refused);
  });

  it('never fails in another way, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.string()), (value) => {
        try {
          const { blobs, manifests } = read({ config: value, layers: [value], manifests: value });
          return [...blobs, ...manifests].every(({ size }) => size >= 0 && size <= MAX_BLOB_BYTES);
        } catch (error) {
          return isTidepoolError(error, 'ORIGIN_LIED');
        }
      }),
      { seed: 42, numRuns: 500 },
    );
  });
});

describe('a tag’s records', () => {
  it('never come from fewer members than the quorum, nor from the future, and each digest once', () => {
    const record = fc.record({ n: fc.nat(3), originAt: fc.nat(2_000_000) });
    const said = fc.record({ node: fc.nat(4), record });
    fc.assert(
      fc.property(
        fc.array(record, { maxLength: 3 }),
        fc.array(said, { maxLength: 12 }),
        fc.integer({ min: 1, max: 3 }),
        (own, others, quorum) => {
          const full = ({ n, originAt }: { n: number; originAt: number }) => ({
            registry: 'r.example',
            repository: 'app',
            tag: 'v1',
            digest: digestOf(Buffer.from(String(n))),
            originAt,
          });
          const now = 1_000_000;
          const latest = now + 5 * 60_000;
          const picked = pickRecord({
            pins: [],
            own: own.map(full),
            others: others.map(({ node, record }) => ({ node: `n${node}`, record: full(record) })),
            quorum,
            now,
          });
          expect(new Set(picked.map(({ digest }) => digest)).size).toBe(picked.length);
          for (const { digest, originAt } of picked) {
            // What was only loaded bears no date.
            expect(originAt ?? 0).toBeLessThanOrEqual(latest);
            const mine = own.map(full).some((each) => each.digest === digest && each.originAt <= latest);
            const voters = new Set(
              others
                .filter(({ record }) => full(record).digest === digest && record.originAt <= latest)
                .map(({ node }) => node),
            );
            expect(mine || voters.size >= quorum).toBe(true);
          }
        },
      ),
      { seed: 42, numRuns: 300 },
    );
  });
});
