import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameMeter } from '../../../../shared/mqtt/frame-meter.ts';

/** A packet of `length` body bytes, with the length as MQTT writes it. */
function packet(length: number): Buffer {
  const head = [0x30];
  let rest = length;
  do {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    head.push(rest > 0 ? byte | 0x80 : byte);
  } while (rest > 0);
  // Bodies look like headers of huge packets, to catch a meter that lost its place.
  return Buffer.concat([Buffer.from(head), Buffer.alloc(length, 0xff)]);
}

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const edges = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
}

describe('FrameMeter', () => {
  it('lets packets up to the limit pass, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 10 }),
        fc.array(fc.nat(), { maxLength: 10 }),
        (lengths, places) => {
          const meter = new FrameMeter(300);
          const stream = Buffer.concat(lengths.map(packet));
          expect(cut(stream, places).every((chunk) => meter.accept(chunk))).toBe(true);
        },
      ),
      { seed: 42 },
    );
  });

  it('refuses a larger one before its body has come', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 5 }),
        fc.integer({ min: 301, max: 200_000_000 }),
        (before, length) => {
          const meter = new FrameMeter(300);
          expect(meter.accept(Buffer.concat(before.map(packet)))).toBe(true);
          const head = packet(Math.min(length, 1)).subarray(0, 1);
          const bytes: number[] = [];
          for (let rest = length; ; rest = Math.floor(rest / 128)) {
            bytes.push(rest >= 128 ? (rest % 128) | 0x80 : rest);
            if (rest < 128) break;
          }
          expect(meter.accept(Buffer.from([...head, ...bytes]))).toBe(false);
        },
      ),
      { seed: 42 },
    );
  });

  it('refuses a length that never ends', () => {
    expect(new FrameMeter(300).accept(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 0x80]))).toBe(false);
  });
});
