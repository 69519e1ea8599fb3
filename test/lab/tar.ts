/** Just enough of a tar writer (ustar) for a layer whose bytes are the same on every machine. */

export interface TarEntry {
  readonly path: string;
  readonly type: 'file' | 'directory' | 'symlink';
  readonly mode?: number;
  readonly size?: number;
  readonly linkTo?: string;
  readonly content?: () => AsyncIterable<Uint8Array>;
}

const BLOCK = 512;
const TYPE_FLAGS = { file: '0', directory: '5', symlink: '2' } as const;

/** The bytes of a tar archive of these entries; owner root, time zero. */
export async function* tar(entries: readonly TarEntry[]): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    const size = entry.size ?? 0;
    yield header(entry, size);
    let written = 0;
    if (entry.content !== undefined) {
      for await (const chunk of entry.content()) {
        written += chunk.length;
        yield chunk;
      }
    }
    if (written !== size) throw new Error(`tar entry ${entry.path}: ${written} bytes instead of ${size}`);
    const rest = size % BLOCK;
    if (rest > 0) yield new Uint8Array(BLOCK - rest);
  }
  yield new Uint8Array(2 * BLOCK);
}

function header(entry: TarEntry, size: number): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, width: number): void => {
    block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, offset, 'latin1');
  };
  block.write(entry.path, 0, 100, 'utf8');
  octal(entry.mode ?? (entry.type === 'directory' ? 0o755 : 0o644), 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write(TYPE_FLAGS[entry.type], 156, 'latin1');
  block.write(entry.linkTo ?? '', 157, 100, 'utf8');
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
