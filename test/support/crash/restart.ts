import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemIo } from '../../../edge/store/io.ts';
import { bitmapOf, heldPieces } from '../../../edge/store/piece-maps.ts';
import { parseBlobKey } from '../../../shared/ids.ts';
import { layoutOf, pieceRange } from '../../../shared/pieces.ts';
import { layOut } from './disk.ts';
import { type CrashNode, openNode } from './node.ts';
import type { CrashPoint } from './points.ts';
import type { Fact } from './steps.ts';
import { pullTag, tellAll } from './story.ts';
import type { MemoryOrigin } from './world.ts';

/** Nothing crashes while an agent is looked at: what it syncs need not be. */
const QUICK_IO = { ...systemIo, syncData: async () => undefined, syncDirectory: async () => undefined };

/** What is wrong with an agent that starts from what was left behind; nothing when all is right. */
export async function faultsOf(
  point: CrashPoint,
  components: { readonly origin: MemoryOrigin; readonly directory: string },
): Promise<string[]> {
  const { origin, directory } = components;
  layOut(point.left, directory);
  const node = await openNode(directory, { origin, io: QUICK_IO });
  try {
    const faults = [
      ...wrongClaims(node, directory, origin),
      ...brokenPromises(node, point),
      ...wrongNews(node, point),
    ];
    await node.settled();
    faults.push(...strayFiles(node, directory));
    if (faults.length > 0) return faults;
    return await resume(node, directory, origin);
  } finally {
    await node.close();
  }
}

/** Pieces that the index claims, and their bytes are not there or others. */
function wrongClaims(node: CrashNode, directory: string, origin: MemoryOrigin): string[] {
  return [...node.index.blobs.list()].flatMap((row) => {
    const { key, size, pieceSize, whole } = row;
    const right = origin.bytesOf(key);
    if (size !== right.length) return [`${key} has ${size} bytes in the index, not ${right.length}`];
    const path = fileOf(directory, key);
    const file = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
    const layout = layoutOf(size, pieceSize);
    // As the row has it: the store would forgive a file that is too short.
    const marked = heldPieces(bitmapOf(row, layout.pieceCount));
    const stored = node.store.get(key);
    return marked.flatMap((piece) => {
      const { start, end } = pieceRange(layout, piece);
      const bytes = file.subarray(start, end);
      // Wrong bytes that a registry sent are what they were when they came: their claim says so.
      const claim = stored?.claim(piece);
      if (bytes.length < end - start || claim === undefined || !sha256(bytes).equals(claim.sha256))
        return [`piece ${piece} of ${key} is claimed, and its bytes are not there`];
      if (whole && !bytes.equals(right.subarray(start, end)))
        return [`${key} is whole, and wrong at ${piece}`];
      return [];
    });
  });
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function brokenPromises(node: CrashNode, { facts, durableFacts, end }: CrashPoint): string[] {
  const documents = new Map<string, unknown[]>();
  const faults: string[] = [];
  for (const [n, fact] of facts.entries()) {
    switch (fact.kind) {
      case 'kept':
        if (!node.index.custody.has(parseBlobKey(fact.key)))
          faults.push(`the promise of ${fact.key} is gone`);
        if (node.store.get(parseBlobKey(fact.key))?.whole !== true) faults.push(`${fact.key} was promised`);
        break;
      case 'writing':
        documents.set(fact.name, [...(documents.get(fact.name) ?? [undefined]), fact.value]);
        break;
      case 'written':
        if (end === 'killed' || n < durableFacts) documents.set(fact.name, [fact.value]);
        break;
      case 'marked':
        if (end === 'power' || facts.slice(n).some((later) => isRemoval(later, fact.key))) break;
        if ((node.store.get(parseBlobKey(fact.key))?.have.count ?? 0) < fact.pieces) {
          faults.push(`${fact.key} had ${fact.pieces} pieces marked`);
        }
        break;
      default:
        break;
    }
  }
  for (const [name, values] of documents) {
    const found = JSON.stringify(node.index.documents.get(name));
    if (!values.some((value) => JSON.stringify(value) === found)) {
      faults.push(`document ${name} is ${found}, not one of ${JSON.stringify(values)}`);
    }
  }
  return faults;
}

/** Events that the hub would not be told of, or under another number than before. */
function wrongNews(node: CrashNode, { facts, durableFacts, end }: CrashPoint): string[] {
  const told = tellAll(node);
  const numbers = new Map(told.map(({ key, seq }) => [key, seq]));
  const faults = new Set(told.map(({ seq }) => seq)).size < told.length ? ['two events have one number'] : [];
  if (numbers.size < told.length) faults.push('an event is told twice');
  const begun = facts.flatMap((fact) => (fact.kind === 'acknowledging' ? [fact.seq] : []));
  const acknowledged = Math.max(0, ...begun);
  const known = new Map(facts.flatMap((fact) => (fact.kind === 'told' ? [[fact.key, fact.seq]] : [])));
  for (const [n, fact] of facts.entries()) {
    const isKept = end === 'killed' || n < durableFacts;
    if (fact.kind === 'noted' && isKept && (known.get(fact.key) ?? Number.POSITIVE_INFINITY) > acknowledged) {
      if (!numbers.has(fact.key)) faults.push(`event ${fact.key} is gone`);
    } else if (fact.kind === 'told') {
      const now = numbers.get(fact.key);
      // Durable before it is said, also where the cut comes at once.
      if (now === undefined ? fact.seq > acknowledged : now !== fact.seq)
        faults.push(`event ${fact.key} was told as ${fact.seq}, and is ${now}`);
    } else if (fact.kind === 'acknowledged' && isKept && told.some(({ seq }) => seq <= fact.seq)) {
      faults.push(`events up to ${fact.seq} are told though the hub has them`);
    }
  }
  return faults;
}

function isRemoval(fact: Fact, key: string): boolean {
  return fact.kind === 'removing' && fact.key === key;
}

/** Files that no row speaks of. */
function strayFiles(node: CrashNode, directory: string): string[] {
  return readdirSync(join(directory, 'blobs')).flatMap((shard) =>
    readdirSync(join(directory, 'blobs', shard))
      .filter((name) => node.index.blobs.find(parseBlobKey(name.replace('-', ':'))) === undefined)
      .map((name) => `${name} is in no row`),
  );
}

/** Pulls all there is: it ends right, and nothing that was marked is read again. */
async function resume(node: CrashNode, directory: string, origin: MemoryOrigin): Promise<string[]> {
  const blobs = new Set(origin.images.flatMap((image) => image.blobs));
  let held = 0;
  let wrong = 0;
  for (const digest of blobs) {
    // Where it was lost whose bytes they are, its registry has to show them again.
    const isKnown = node.index.provenance.list(digest).length > 0;
    const stored = isKnown ? node.store.get(digest) : undefined;
    const bytes = origin.bytesOf(digest);
    for (let piece = 0; piece < (stored?.layout.pieceCount ?? 0); piece++) {
      if (stored === undefined || !stored.have.has(piece)) continue;
      const { start, end } = pieceRange(stored.layout, piece);
      const claim = stored.claim(piece);
      if (claim === undefined || !sha256(bytes.subarray(start, end)).equals(claim.sha256)) wrong++;
      else held += end - start;
    }
  }
  const total = [...blobs].reduce((sum, digest) => sum + origin.bytesOf(digest).length, 0);
  const faults: string[] = [];
  origin.read = 0;
  for (const { tag } of origin.images) {
    await pullTag(node, tag).catch(async (error: unknown) => {
      // Wrong bytes of its registry that it had before: found at the end, and thrown away.
      if (wrong === 0) throw error;
      await pullTag(node, tag);
    });
  }
  if (wrong === 0 && origin.read !== total - held) {
    faults.push(`${origin.read} bytes are read again, ${total - held} were not here`);
  }
  await node.store.flush();
  for (const digest of blobs) {
    if (node.store.get(digest)?.whole !== true) faults.push(`${digest} is not whole in the end`);
    else if (!readFileSync(fileOf(directory, digest)).equals(origin.bytesOf(digest))) {
      faults.push(`${digest} is wrong in the end`);
    }
  }
  return faults;
}

function fileOf(directory: string, key: string): string {
  const [kind = '', hex = ''] = key.split(':');
  return join(directory, 'blobs', hex.slice(0, 2), `${kind}-${hex}`);
}
