import { type ByteRange, contentRange } from './range.ts';

/** Bytes of a blob, with what goes before them on the wire. */
export interface BodyPart extends ByteRange {
  readonly prefix?: Buffer;
}

/** A body whose length is known before its first byte is read. */
export interface BodyPlan {
  readonly parts: readonly BodyPart[];
  readonly suffix?: Buffer;
  /** All bytes on the wire: prefixes, ranges and suffix. */
  readonly length: number;
}

export function singlePart(range: ByteRange): BodyPlan {
  return { parts: [range], length: range.end - range.start };
}

/** A multipart/byteranges body (RFC 9110, 14.6). The boundary must not occur in the blob. */
export function multipart(
  ranges: readonly ByteRange[],
  size: number,
  contentType: string,
  boundary: string,
): BodyPlan {
  const suffix = Buffer.from(`\r\n--${boundary}--\r\n`, 'latin1');
  let length = suffix.length;
  const parts = ranges.map((range, index): BodyPart => {
    const prefix = Buffer.from(
      `${index === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${contentType}\r\n` +
        `Content-Range: ${contentRange(range, size)}\r\n\r\n`,
      'latin1',
    );
    length += prefix.length + range.end - range.start;
    return { ...range, prefix };
  });
  return { parts, suffix, length };
}
