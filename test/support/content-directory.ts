import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestOf } from '../../shared/ids.ts';

/** A directory as containerd's content store is laid out: written under ingest/, renamed when whole. */
export class ContentDirectory {
  readonly root: string;
  #ingests = 0;

  constructor(root: string) {
    this.root = root;
    mkdirSync(join(root, 'blobs', 'sha256'), { recursive: true });
    mkdirSync(join(root, 'ingest'), { recursive: true });
  }

  /** As containerd does when a blob's digest was right. `named`: under another digest than its own. */
  commit(bytes: Uint8Array | string, named?: Digest): Digest {
    const digest = named ?? digestOf(Buffer.from(bytes));
    const ingest = join(this.root, 'ingest', String(this.#ingests++));
    mkdirSync(ingest);
    writeFileSync(join(ingest, 'data'), bytes);
    renameSync(join(ingest, 'data'), this.pathOf(digest));
    rmSync(ingest, { recursive: true });
    return digest;
  }

  /** As its garbage collection does. */
  remove(digest: string): void {
    rmSync(this.pathOf(digest));
  }

  pathOf(digest: string): string {
    return join(this.root, 'blobs', 'sha256', digest.replace('sha256:', ''));
  }
}
