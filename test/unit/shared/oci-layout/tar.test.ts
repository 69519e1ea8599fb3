import { Readable } from 'node:stream';
import { extract, type Header } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { paddingOf, sizeIn, TAR_END, tarBytes, tarHeader } from '../../../../shared/oci-layout/tar.ts';

describe('a header of a bundle', () => {
  it('is what another reader of tars takes for a plain file', async () => {
    const content = Buffer.from('hello');
    const entries: Header[] = [];
    const bodies: string[] = [];
    const tar = extract();
    tar.on('entry', (header, stream, next) => {
      entries.push(header);
      let text = '';
      stream.on('data', (chunk: unknown) => {
        if (chunk instanceof Uint8Array) text += Buffer.from(chunk).toString();
      });
      stream.on('end', () => {
        bodies.push(text);
        next();
      });
    });
    const bytes = Buffer.concat([
      tarHeader('blobs/sha256/aa', content.length),
      content,
      Buffer.alloc(paddingOf(content.length)),
      TAR_END,
    ]);
    const ended = new Promise<void>((resolve, reject) => {
      tar.on('finish', resolve).on('error', reject);
    });
    Readable.from([bytes]).pipe(tar);
    await ended;
    expect(entries).toMatchObject([{ name: 'blobs/sha256/aa', type: 'file', size: 5, uid: 0, gid: 0 }]);
    expect(entries[0]?.mtime?.getTime()).toBe(0);
    expect(bodies).toEqual(['hello']);
  });

  it('tells sizes of more than eleven octal digits as GNU tar and Go do', () => {
    const size = 9 * 1024 ** 3;
    const block = tarHeader('x', size);
    expect(block[124]).toBe(0x80);
    expect(block.readBigUInt64BE(128)).toBe(BigInt(size));
    expect(sizeIn(tarHeader('x', 12_345))).toBe(12_345);
    expect(sizeIn(block)).toBeUndefined();
  });

  it('takes no name that has no room', () => {
    expect(() => tarHeader('a'.repeat(100), 1)).toThrow(/too long/);
  });

  it('fills its last block', () => {
    expect([0, 1, 511, 512, 513].map(paddingOf)).toEqual([0, 511, 1, 0, 511]);
    expect(tarBytes(513)).toBe(512 + 1_024);
  });
});
