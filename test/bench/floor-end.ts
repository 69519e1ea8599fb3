/**
 * One process of the yardstick for an agent: an image's pieces from a registry and from seven siblings, hashed, written to
 * files and sent on in order, by bare Node. No protocol: no index, no claims, no retries, nothing bounded. Started by floor.ts.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { Agent, createServer, get, request, type ServerResponse } from 'node:http';
import {
  type AddressInfo,
  connect,
  createServer as createNetServer,
  type Server,
  type Socket,
} from 'node:net';
import { join } from 'node:path';

const PIECE_BYTES = 1024 * 1024;
/** An ask, and the head of its answer: which blob, and which piece of it. */
const HEAD_BYTES = 4;

export interface FloorPlan {
  /** The registry's repository: `http://host:port/v2/name`. */
  readonly repository: string;
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  /** For this process alone. */
  readonly directory: string;
  /** Piece i is for process i mod `processes` to read. */
  readonly self: number;
  readonly processes: number;
}
export type ToFloorEnd =
  | { readonly kind: 'begin'; readonly plan: FloorPlan }
  | { readonly kind: 'meet'; readonly ports: readonly number[] };
export type FromFloorEnd =
  | { readonly kind: 'begun'; readonly mirror: number; readonly peer: number }
  | { readonly kind: 'met' };

/** Used over and over, as a fresh one costs a page fault for each 4 KiB. */
const free: Buffer[] = [];
const origin = new Agent({ keepAlive: true });
/** By number of the process; empty at the own one's. */
const siblings: (Socket | undefined)[] = [];
const blobs: FloorBlob[] = [];

/** A piece in memory until everyone has had it who will ask. */
class Held {
  readonly bytes: Buffer;
  readonly #memory: Buffer;
  #users: number;

  constructor(memory: Buffer, length: number, users: number) {
    this.bytes = memory.subarray(0, length);
    this.#memory = memory;
    this.#users = users;
  }

  readonly release = (): void => {
    if (--this.#users === 0) free.push(this.#memory);
  };
}

class FloorBlob {
  readonly pieceCount: number;
  readonly #plan: FloorPlan;
  readonly #index: number;
  readonly #digest: string;
  readonly #size: number;
  readonly #file: FileHandle;
  readonly #held = new Map<number, Held>();
  readonly #askers = new Map<number, Socket[]>();
  readonly #hash: Hash = createHash('sha256');
  readonly #writes: Promise<void>[] = [];
  #client: ServerResponse | undefined;
  #next = 0;

  constructor(plan: FloorPlan, index: number, file: FileHandle) {
    const { digest, size } = plan.blobs[index] ?? { digest: '', size: 0 };
    this.pieceCount = Math.ceil(size / PIECE_BYTES);
    this.#plan = plan;
    this.#index = index;
    this.#digest = digest;
    this.#size = size;
    this.#file = file;
  }

  lengthOf(piece: number): number {
    return Math.min(PIECE_BYTES, this.#size - piece * PIECE_BYTES);
  }

  /** The one client of this process wants it: what others have is asked of them, the own share is read. */
  async serve(client: ServerResponse): Promise<void> {
    this.#client = client;
    client.writeHead(200, { 'content-length': this.#size });
    const { self, processes } = this.#plan;
    for (let piece = 0; piece < this.pieceCount; piece++) {
      siblings[piece % processes]?.write(headOf(this.#index, piece));
    }
    for (let piece = self; piece < this.pieceCount; piece += processes) {
      this.arrived(piece, await this.#read(piece), processes + 1);
    }
  }

  /** Somebody wants a piece that is this process's to read. */
  ask(piece: number, asker: Socket): void {
    const held = this.#held.get(piece);
    if (held !== undefined) this.#answer(piece, held, asker);
    else this.#askers.set(piece, [...(this.#askers.get(piece) ?? []), asker]);
  }

  /** @param users the file, the client, and each sibling that will ask for it */
  arrived(piece: number, memory: Buffer, users = 2): void {
    const held = new Held(memory, this.lengthOf(piece), users);
    createHash('sha256').update(held.bytes).digest();
    this.#held.set(piece, held);
    for (const asker of this.#askers.get(piece) ?? []) this.#answer(piece, held, asker);
    this.#askers.delete(piece);
    this.#writes.push(this.#write(piece, held));
    for (let next = this.#held.get(this.#next); next !== undefined; next = this.#held.get(this.#next)) {
      // An own piece stays for siblings that have not asked yet.
      if (this.#next % this.#plan.processes !== this.#plan.self) this.#held.delete(this.#next);
      this.#hash.update(next.bytes);
      this.#client?.write(next.bytes, next.release);
      this.#next++;
    }
    if (this.#next === this.pieceCount) void this.#finish().catch(fail);
  }

  #answer(piece: number, held: Held, asker: Socket): void {
    asker.cork();
    asker.write(headOf(this.#index, piece));
    asker.write(held.bytes, held.release);
    asker.uncork();
  }

  async #write(piece: number, { bytes, release }: Held): Promise<void> {
    await this.#file.write(bytes, 0, bytes.length, piece * PIECE_BYTES);
    release();
  }

  async #finish(): Promise<void> {
    await Promise.all(this.#writes);
    await this.#file.close();
    if (`sha256:${this.#hash.digest('hex')}` !== this.#digest)
      throw new Error(`wrong bytes: ${this.#digest}`);
    this.#client?.end();
  }

  #read(piece: number): Promise<Buffer> {
    const start = piece * PIECE_BYTES;
    const range = `bytes=${start}-${start + this.lengthOf(piece) - 1}`;
    return new Promise((resolve, reject) => {
      get(
        `${this.#plan.repository}/blobs/${this.#digest}`,
        { agent: origin, headers: { range } },
        (answer) => {
          const memory = memoryForOne();
          let length = 0;
          answer.on('data', (chunk: Buffer) => {
            length += chunk.copy(memory, length);
          });
          answer.on('end', () => resolve(memory));
          answer.on('error', reject);
        },
      ).on('error', reject);
    });
  }
}

/** Answers of one sibling, each read straight into the memory that it stays in. */
function dial(port: number): Promise<Socket> {
  const head = Buffer.alloc(HEAD_BYTES);
  let memory: Buffer | undefined;
  let [blob, piece, at, length] = [0, 0, 0, HEAD_BYTES];
  const onBytes = (count: number): boolean => {
    at += count;
    if (at < length) return true;
    at = 0;
    if (memory === undefined) {
      [blob, piece] = [head.readUInt16BE(0), head.readUInt16BE(2)];
      memory = memoryForOne();
      length = blobAt(blob).lengthOf(piece);
    } else {
      blobAt(blob).arrived(piece, memory);
      memory = undefined;
      length = HEAD_BYTES;
    }
    return true;
  };
  return new Promise((resolve) => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      noDelay: true,
      onread: { buffer: () => (memory ?? head).subarray(at, length), callback: onBytes },
    });
    socket.once('connect', () => resolve(socket)).on('error', fail);
  });
}

function answerSibling(socket: Socket): void {
  let asks: Buffer = Buffer.alloc(0);
  socket.setNoDelay(true).on('error', fail);
  socket.on('data', (bytes: Buffer) => {
    asks = Buffer.concat([asks, bytes]);
    for (; asks.length >= HEAD_BYTES; asks = asks.subarray(HEAD_BYTES)) {
      blobAt(asks.readUInt16BE(0)).ask(asks.readUInt16BE(2), socket);
    }
  });
}

async function begin(plan: FloorPlan): Promise<FromFloorEnd> {
  for (const index of plan.blobs.keys()) {
    blobs.push(new FloorBlob(plan, index, await open(join(plan.directory, `blob-${index}`), 'wx')));
  }
  const mirror = createServer((asked, response) => {
    const { method = '', url = '', headers } = asked;
    const index = plan.blobs.findIndex(({ digest }) => url.endsWith(`/blobs/${digest}`));
    if (index >= 0) return void blobAt(index).serve(response).catch(fail);
    // Manifests: three small answers.
    const there = new URL(url, plan.repository);
    request(there, { method, headers: { ...headers, host: there.host }, agent: origin }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    }).end();
  });
  const peer = createNetServer(answerSibling);
  return { kind: 'begun', mirror: await listen(mirror), peer: await listen(peer) };

  function listen(server: Server): Promise<number> {
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  }
}

async function meet(ports: readonly number[]): Promise<FromFloorEnd> {
  siblings.push(...(await Promise.all(ports.map((port) => (port === 0 ? undefined : dial(port))))));
  return { kind: 'met' };
}

function memoryForOne(): Buffer {
  return free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
}

function blobAt(index: number): FloorBlob {
  const blob = blobs[index];
  if (blob === undefined) throw new Error(`there is no blob ${index}`);
  return blob;
}

function headOf(blob: number, piece: number): Buffer {
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  head.writeUInt16BE(blob, 0);
  head.writeUInt16BE(piece, 2);
  return head;
}

function fail(error: unknown): void {
  console.error(error);
  process.exit(1);
}

process.on('message', (message: ToFloorEnd) => {
  const answer = message.kind === 'begin' ? begin(message.plan) : meet(message.ports);
  answer.then((said) => process.send?.(said), fail);
});
