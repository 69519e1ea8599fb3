import type { DiskFree } from '../../edge/retention/pressure.ts';
import { type StoreIo, systemIo } from '../../edge/store/io.ts';

/** A disk that takes so many bytes of blobs and not one more, without a file system of that size. */
export class SmallDisk {
  limit: number;
  readonly #paths = new Map<number, string>();
  /** Bytes by path and where they begin: a piece written twice takes its place once. */
  readonly #written = new Map<string, Map<number, number>>();
  /** Writes that found no room. */
  refused = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    let bytes = 0;
    for (const ranges of this.#written.values()) for (const length of ranges.values()) bytes += length;
    return bytes;
  }

  readonly use = async (): Promise<DiskFree> => ({
    totalBytes: this.limit,
    freeBytes: Math.max(0, this.limit - this.used),
  });

  readonly io: StoreIo = {
    ...systemIo,
    open: async (path, flags, mode) => {
      const fd = await systemIo.open(path, flags, mode);
      this.#paths.set(fd, path);
      return fd;
    },
    write: async (fd, bytes, position) => {
      const path = this.#paths.get(fd) ?? '';
      const ranges = this.#written.get(path) ?? new Map<number, number>();
      if (!ranges.has(position) && this.used + bytes.length > this.limit) {
        this.refused++;
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      }
      this.#written.set(path, ranges.set(position, bytes.length));
      await systemIo.write(fd, bytes, position);
    },
    unlink: async (path) => {
      await systemIo.unlink(path);
      this.#written.delete(path);
    },
  };
}
