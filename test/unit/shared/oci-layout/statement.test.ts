import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { readStatement, type Statement, writeStatement } from '../../../../shared/oci-layout/statement.ts';

const OCI = 'application/vnd.oci.image.manifest.v1+json';
const digest = (seed: string): Digest => digestOf(Buffer.from(seed));

function statementOf(order: (list: readonly number[]) => number[]): Statement {
  const some = order([1, 2, 3, 4]);
  return {
    version: 1,
    created: 1_000,
    expires: 2_000,
    platforms: some.map((n) => `linux/a${n}`),
    images: some.map((n) => ({
      registry: 'reg.example',
      repository: `lab/app-${n}`,
      tag: 'v1',
      digest: digest(`m${n}`),
      mediaType: OCI,
      size: 100 + n,
      open: n % 2 === 0,
    })),
    manifests: some.map((n) => ({ digest: digest(`m${n}`), size: 100 + n, mediaType: OCI })),
    blobs: some.map((n) => ({ digest: digest(`b${n}`), size: n })),
    leftOut: some.map((n) => ({ digest: digest(`l${n}`), size: n, why: 'base' })),
  };
}

describe('a statement', () => {
  it('is the same text whatever order its lists came in', () => {
    const text = writeStatement(statementOf((list) => [...list]));
    fc.assert(
      fc.property(fc.shuffledSubarray([1, 2, 3, 4], { minLength: 4 }), (order) => {
        expect(writeStatement(statementOf(() => order)).equals(text)).toBe(true);
      }),
      { seed: 7, numRuns: 24 },
    );
    expect(writeStatement(readStatement(text)).equals(text)).toBe(true);
  });

  it('names nothing twice', () => {
    const said = statementOf((list) => [...list]);
    const [image] = said.images;
    const [blob] = said.blobs;
    if (image === undefined || blob === undefined) throw new Error('nothing named');
    const twice = (more: Partial<Statement>): (() => Statement) => {
      return () => readStatement(writeStatement({ ...said, ...more }));
    };
    expect(twice({ images: [...said.images, { ...image, digest: digest('other') }] })).toThrow(/image twice/);
    expect(twice({ blobs: [...said.blobs, blob] })).toThrow(/twice/);
    expect(twice({ leftOut: [...said.leftOut, { ...blob, why: 'base' }] })).toThrow(/twice/);
  });

  it('is bounded', () => {
    const said = statementOf((list) => [...list]);
    const many = Array.from({ length: 20 }, (_, n) => ({
      digest: digest(`big${n}`),
      size: 4 * 1024 * 1024,
      mediaType: OCI,
    })) satisfies Statement['manifests'];
    expect(() => readStatement(writeStatement({ ...said, manifests: many }))).toThrow(/more than/);
    expect(() => readStatement(Buffer.alloc(5 * 1024 * 1024, ' '))).toThrow(/too long/);
  });
});
