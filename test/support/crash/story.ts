import { rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { pullImage } from '../../../edge/prefetch/pull-image.ts';
import { systemIo } from '../../../edge/store/io.ts';
import { type BlobKey, parseBlobKey } from '../../../shared/ids.ts';
import { parseImageRef } from '../../../shared/image-ref.ts';
import { type CrashNode, openNode } from './node.ts';
import { Recorder } from './recorder.ts';
import type { Fact, Step } from './steps.ts';
import { MemoryOrigin, NAME } from './world.ts';

/** What happens again and again; one key, one event. */
const EVENT = { boot: 'boot-1', kind: 'tag-stale', detail: 'a record', count: 1, at: 1_000 } as const;

/** All that the hub has not acknowledged, told to it. */
export function tellAll(node: CrashNode): readonly { readonly key: string; readonly seq: number }[] {
  return node.index.outbox.tell(100, 100_000);
}

export function pullTag(node: CrashNode, tag: string, signal?: AbortSignal) {
  const image = parseImageRef(`${NAME.registry}/${NAME.repository}:${tag}`);
  return pullImage(
    { content: node.transfer.content },
    { image, platforms: [], ...(signal === undefined ? {} : { signal }) },
  );
}

/**
 * What an agent does on an eventful day, step by step: it pulls, promises, gives up, gets wrong bytes, leaves a pull half
 * done and ends.
 */
export async function record(directory: string): Promise<{ steps: readonly Step[]; origin: MemoryOrigin }> {
  const origin = new MemoryOrigin();
  const recorder = new Recorder(directory);
  const ends = watchFullCommits(() => recorder.databaseSynced());
  try {
    const node = await openNode(directory, { origin, io: recorder.io });
    const [one, two, three] = origin.images;
    if (one === undefined || two === undefined || three === undefined)
      throw new Error('three images are needed');
    const [, layer = '', , small = ''] = one.blobs;
    const keep = (name: string, value: unknown): void => {
      recorder.fact({ kind: 'writing', name, value });
      node.index.documents.put(name, value);
      recorder.fact({ kind: 'written', name, value });
    };
    const note = (key: string): void => {
      node.index.outbox.add({ ...EVENT, key });
      recorder.fact({ kind: 'noted', key });
    };
    const tell = (): void => {
      for (const { key, seq } of tellAll(node)) recorder.fact({ kind: 'told', key, seq });
    };
    const acknowledge = (seq: number): void => {
      recorder.fact({ kind: 'acknowledging', seq });
      node.index.outbox.acknowledge(EVENT.boot, seq);
      recorder.fact({ kind: 'acknowledged', seq });
    };
    const flush = async (): Promise<void> => {
      await node.store.flush();
      for (const { key } of [...node.index.blobs.list()]) {
        recorder.fact({ kind: 'marked', key, pieces: node.store.get(key)?.have.count ?? 0 });
      }
    };

    await node.settled();
    keep('roster', ['node-a', 'node-b']);
    note('first');
    note('second');
    await pullTag(node, one.tag);
    tell();
    note('third');
    keep('job/1', { phase: 'done' });
    await flush();
    await promise(node, layer, (fact) => recorder.fact(fact));
    keep('roster', ['node-a', 'node-b', 'node-c']);
    acknowledge(1);
    checkpoint(directory);
    recorder.look();

    const key = parseBlobKey(small);
    recorder.fact({ kind: 'removing', key });
    await node.store.remove(key);
    await pullTag(node, two.tag);
    tell();
    await flush();
    acknowledge(3);

    // Its registry gives wrong bytes: all is dropped, and comes again.
    const [, bad] = three.blobs;
    if (bad === undefined) throw new Error('a layer is needed');
    origin.broken.add(bad);
    recorder.fact({ kind: 'removing', key: bad });
    await pullTag(node, three.tag).then(
      () => Promise.reject(new Error('wrong bytes were taken')),
      () => undefined,
    );
    await flush();
    origin.broken.clear();
    await half(node, origin, bad, three.tag);
    await flush();
    keep('job/1', { phase: 'again' });
    note('fourth');
    tell();
    note('fifth');
    await pullTag(node, three.tag);
    await node.index.custody.add([parseBlobKey(bad)]);
    recorder.look();
    await node.close();
    recorder.look();
  } finally {
    ends();
  }
  return { steps: recorder.steps, origin };
}

/** An agent that has everything starts without its index, and is asked for a blob while it looks what it has. */
export async function recordLoss(
  directory: string,
): Promise<{ steps: readonly Step[]; origin: MemoryOrigin }> {
  const origin = new MemoryOrigin();
  const before = await openNode(directory, { origin, io: systemIo });
  await before.settled();
  for (const { tag } of origin.images) await pullTag(before, tag);
  await before.store.flush();
  await before.index.copy();
  await before.close();
  for (const end of ['', '-wal', '-shm']) rmSync(join(directory, `index.db${end}`), { force: true });

  const recorder = new Recorder(directory);
  recorder.begin();
  const ends = watchFullCommits(() => recorder.databaseSynced());
  try {
    const node = await openNode(directory, { origin, io: recorder.io });
    const [asked] = origin.images.at(-1)?.blobs.slice(1) ?? [];
    if (asked !== undefined) await node.store.reach(asked);
    recorder.look();
    await node.settled();
    recorder.look();
    await node.close();
    recorder.look();
  } finally {
    ends();
  }
  return { steps: recorder.steps, origin };
}

async function promise(node: CrashNode, digest: string, tell: (fact: Fact) => void): Promise<void> {
  const key: BlobKey = parseBlobKey(digest);
  const [word] = await node.custody.keep([key]);
  if (word !== 'kept') throw new Error(`${key} is ${word}`);
  tell({ kind: 'kept', key });
}

/** Called off when its second piece is asked for. */
async function half(node: CrashNode, origin: MemoryOrigin, digest: string, tag: string): Promise<void> {
  const gone = new AbortController();
  origin.onRead = (asked, start) => {
    if (asked === digest && start > 0) gone.abort(new Error('called off'));
  };
  await pullTag(node, tag, gone.signal).catch(() => undefined);
  origin.onRead = () => undefined;
  await node.transfer.swarms.stop();
  await node.transfer.swarms.start();
}

/** Moves what the log holds into the file, as SQLite does by itself after a thousand pages. */
function checkpoint(directory: string): void {
  const other = new Database(join(directory, 'index.db'));
  other.pragma('wal_checkpoint(PASSIVE)');
  other.close();
}

/** Calls `synced` when a change that asked for synchronous=FULL is through; until the answer is called. */
function watchFullCommits(synced: () => void): () => void {
  const { pragma } = Database.prototype;
  let isFull = false;
  Database.prototype.pragma = function (this: Database.Database, source, options) {
    const answer = pragma.call(this, source, options);
    if (/synchronous\s*=\s*FULL/i.test(source)) isFull = true;
    else if (/synchronous/i.test(source) && isFull) {
      isFull = false;
      synced();
    }
    return answer;
  };
  return () => {
    Database.prototype.pragma = pragma;
  };
}
