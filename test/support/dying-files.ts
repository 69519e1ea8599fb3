import { type FileOps, systemFiles } from '../../edge/identity/private-file.ts';

/** The file system of a process that dies at its n-th change: what came before stays, nothing comes after. */
export class DyingFiles {
  dead = false;
  readonly ops: FileOps;
  #left: number;

  constructor(operation: number) {
    this.#left = operation;
    const change =
      <A extends unknown[], R>(act: (...args: A) => R) =>
      (...args: A): R => {
        this.#count();
        return act(...args);
      };
    this.ops = {
      ...systemFiles,
      chmodSync: change(systemFiles.chmodSync),
      fsyncSync: change(systemFiles.fsyncSync),
      mkdirSync: ((...args: Parameters<typeof systemFiles.mkdirSync>) => {
        this.#count();
        return systemFiles.mkdirSync(...args);
      }) as typeof systemFiles.mkdirSync,
      openSync: change(systemFiles.openSync),
      renameSync: change(systemFiles.renameSync),
      unlinkSync: change(systemFiles.unlinkSync),
      // A part of it may be on the disk.
      writeSync: ((file: number, bytes: Buffer, offset: number) => {
        this.#left--;
        if (this.#left === 0)
          systemFiles.writeSync(file, bytes, offset, Math.floor((bytes.length - offset) / 2));
        if (this.#left <= 0) this.#die();
        return systemFiles.writeSync(file, bytes, offset);
      }) as typeof systemFiles.writeSync,
    };
  }

  #count(): void {
    this.#left--;
    if (this.#left <= 0) this.#die();
  }

  #die(): never {
    this.dead = true;
    throw new Error('the process has died');
  }
}
