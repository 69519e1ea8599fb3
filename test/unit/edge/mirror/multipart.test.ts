import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BodyPlan, multipart, singlePart } from '../../../../edge/mirror/multipart.ts';
import { patternBytes } from '../../../support/mirror-fixture.ts';

function render(plan: BodyPlan, blob: Uint8Array): Buffer {
  const chunks: Uint8Array[] = [];
  for (const part of plan.parts)
    chunks.push(part.prefix ?? new Uint8Array(), blob.subarray(part.start, part.end));
  chunks.push(plan.suffix ?? new Uint8Array());
  return Buffer.concat(chunks);
}

describe('multipart', () => {
  it('is written as RFC 9110 has it', () => {
    const blob = Buffer.from('0123456789');
    const plan = multipart(
      [
        { start: 0, end: 2 },
        { start: 8, end: 10 },
      ],
      10,
      'application/octet-stream',
      'b',
    );
    expect(render(plan, blob).toString()).toBe(
      '--b\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/10\r\n\r\n01' +
        '\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 8-9/10\r\n\r\n89' +
        '\r\n--b--\r\n',
    );
  });

  it('knows its length before the bytes', () => {
    const blob = patternBytes(3000);
    const range = fc
      .tuple(fc.nat(2999), fc.nat(2999))
      .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 }));
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 20 }), fc.uuid(), (ranges, boundary) => {
        const plan = multipart(ranges, blob.length, 'application/octet-stream', boundary);
        expect(render(plan, blob).length).toBe(plan.length);
      }),
      { seed: 42 },
    );
  });

  it('is no multipart for one range', () => {
    expect(singlePart({ start: 3, end: 7 })).toEqual({ parts: [{ start: 3, end: 7 }], length: 4 });
  });
});
