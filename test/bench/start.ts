/**
 * `npx tsx test/bench/start.ts [--json] [--blobs 100000] [--rounds 5]`: how long an agent, the bundle as a process of its
 * own, takes from its spawn to its first right answer: a manifest and a blob that it holds, asked of its mirror. With nothing
 * else in its index, and with as many blobs as said, each a row, its claims, a file, and what belongs to it. Fails when an
 * answer is wrong, never for a missed target. The bundle is what `npm run build` made last.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { get as httpGet } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { openIndex, type SqliteIndex } from '../../edge/index/sqlite-index.ts';
import { PieceStore } from '../../edge/store/piece-store.ts';
import { systemClock } from '../../shared/clock.ts';
import { type BlobKey, type Digest, digestOf, parseDigest, parseNodeName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { layoutOf, pieceLength, pieceRange } from '../../shared/pieces.ts';
import { cpuSeconds, memoryMib } from '../lab/proc.ts';
import { Daemon } from '../lab/process.ts';
import { freePort } from '../support/free-port.ts';

const TARGET_MS = 500;
const NAME = { registry: 'reg.example', repository: 'bench/app' };
const BLOB_BYTES = 300_000;
/** Layers of one image. */
const LAYERS = 10;
const GIVE_UP_MS = 30_000;

interface Start {
  readonly manifestMs: number;
  readonly blobMs: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
}

interface Held {
  readonly manifest: Digest;
  readonly blob: Digest;
}

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    blobs: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '5' },
  },
});
const blobs = Number(flags.blobs);
const rounds = Number(flags.rounds);
const directory = mkdtempSync(join(tmpdir(), 'tidepool-start-'));
try {
  const results: { readonly blobs: number; readonly indexMib: number; readonly starts: readonly Start[] }[] =
    [];
  for (const count of [0, blobs]) {
    const data = join(directory, `data-${count}`);
    const held = await fill(data, count);
    const starts: Start[] = [];
    for (let round = 0; round < rounds; round++) starts.push(await start(data, held));
    results.push({ blobs: count, indexMib: statSync(join(data, 'index.db')).size / 1024 / 1024, starts });
  }
  report(results);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** A data directory with one blob and its manifest that can be asked for, and as many others as said. */
async function fill(data: string, count: number): Promise<Held> {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const log = silentLogger();
  const index = openIndex(join(data, 'index.db'), { log });
  const store = new PieceStore({ blobs: index.blobs, clock: systemClock, log }, { directory: data });
  await store.start();
  const bytes = Buffer.alloc(BLOB_BYTES, 7);
  const blob = digestOf(bytes);
  const stored = store.open(blob, BLOB_BYTES);
  for (let piece = 0; piece < stored.layout.pieceCount; piece++) {
    const { start, end } = pieceRange(stored.layout, piece);
    const buffer = await store.buffer(pieceLength(stored.layout, piece));
    buffer.bytes.set(bytes.subarray(start, end));
    const sha256 = createHash('sha256').update(buffer.bytes).digest();
    await stored.write(piece, buffer, { sha256, reader: parseNodeName('bench'), verified: false });
  }
  if ((await stored.verify()) !== 'whole') throw new Error('the blob is not what it was made of');
  const manifest = keepImage(index, [{ digest: blob, size: BLOB_BYTES }]);
  index.scope.setAccess(NAME, { openAt: Date.now() });
  await store.flush();
  await store.stop();
  for (let from = 0; from < count; from += LAYERS) {
    index.atomically(() => keepLayers(index, data, from, Math.min(count, from + LAYERS)));
  }
  index.close();
  return { manifest, blob };
}

/** Rows and sparse files of whole blobs, and the image that names them. */
function keepLayers(index: SqliteIndex, data: string, from: number, to: number): void {
  const layers: { digest: Digest; size: number }[] = [];
  for (let n = from; n < to; n++) {
    const key: BlobKey = parseDigest(`sha256:${createHash('sha256').update(`layer ${n}`).digest('hex')}`);
    const size = 2_000_000 + n;
    const { pieceSize, pieceCount } = layoutOf(size);
    const lastUsed = 1_700_000_000_000 + n;
    const row = index.blobs.insert({ key, size, pieceSize, bitmap: new Uint8Array(1), lastUsed });
    const chunk = Buffer.alloc(pieceCount * 36, n % 256);
    const marks = { id: row.id, whole: true, bitmap: new Uint8Array(1), heldBytes: size, lastUsed };
    index.blobs.mark([{ ...marks, chunks: [[0, chunk]] }]);
    const hex = key.slice('sha256:'.length);
    const path = join(data, 'blobs', hex.slice(0, 2), `sha256-${hex}`);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(path, 'wx', 0o600);
    ftruncateSync(fd, size);
    closeSync(fd);
    layers.push({ digest: parseDigest(key), size });
  }
  keepImage(index, layers);
}

/** An image's manifest, and all that is written down of what it names. */
function keepImage(index: SqliteIndex, layers: readonly { digest: Digest; size: number }[]): Digest {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...layers[0] },
      layers: layers.map((layer) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...layer })),
    }),
  );
  const digest = digestOf(bytes);
  index.manifests.put({ digest, mediaType, bytes });
  index.sizes.put(layers.map((layer) => [layer.digest, layer.size] as const));
  index.scope.put(NAME, [
    { digest, kind: 'manifest' },
    ...layers.map((layer) => ({ ...layer, kind: 'blob' as const, via: digest })),
  ]);
  for (const layer of layers) index.provenance.prove(layer.digest, NAME.registry);
  return digest;
}

async function start(data: string, held: Held): Promise<Start> {
  const [mirror, peers, ops] = [
    await freePort('127.0.0.1'),
    await freePort('127.0.0.1'),
    await freePort('127.0.0.1'),
  ];
  const begun = performance.now();
  const daemon = new Daemon({
    label: 'agent',
    logFile: join(data, 'agent.log'),
    command: [
      ...[process.execPath, 'dist/tidepool-agent.mjs', 'run', '--insecure'],
      ...['--node=bench', '--pool=bench', '--address=127.0.0.1', `--data=${data}`],
      ...[`--mirror=127.0.0.1:${mirror}`, `--peer-port=${peers}`, `--ops=127.0.0.1:${ops}`],
      `--registry=${NAME.registry}=http://127.0.0.1:9`,
    ],
  });
  try {
    const base = `http://127.0.0.1:${mirror}/v2/${NAME.repository}`;
    await untilRight(`${base}/manifests/${held.manifest}?ns=${NAME.registry}`, held.manifest, data);
    const manifestMs = performance.now() - begun;
    await untilRight(`${base}/blobs/${held.blob}?ns=${NAME.registry}`, held.blob, data);
    const blobMs = performance.now() - begun;
    return { manifestMs, blobMs, cpuSeconds: cpuSeconds(daemon.pid), peakMib: memoryMib(daemon.pid).peak };
  } finally {
    await daemon.stop();
  }
}

/** Asks until somebody listens; what is answered has to be right at once. */
async function untilRight(url: string, digest: Digest, data: string): Promise<void> {
  const until = performance.now() + GIVE_UP_MS;
  while (performance.now() < until) {
    const answer = await ask(url);
    if (answer === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      continue;
    }
    if (answer.status === 200 && digestOf(answer.body) === digest) return;
    throw new Error(`${url} was answered with ${answer.status}: ${answer.body.toString().slice(0, 300)}`);
  }
  throw new Error(`no answer: ${readFileSync(join(data, 'agent.log'), 'utf8').slice(-2_000)}`);
}

function ask(url: string): Promise<{ status: number; body: Buffer } | undefined> {
  return new Promise((resolve, reject) => {
    const request = httpGet(url, { agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
      response.on('error', reject);
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
  });
}

function report(results: readonly { blobs: number; indexMib: number; starts: readonly Start[] }[]): void {
  const rows = results.map(({ blobs: count, indexMib, starts }) => {
    const of = (field: keyof Start): number => median(starts.map((each) => each[field]));
    return {
      blobs: count,
      indexMib: Math.round(indexMib),
      manifestMs: Math.round(of('manifestMs')),
      blobMs: Math.round(of('blobMs')),
      worstMs: Math.round(Math.max(...starts.map(({ manifestMs }) => manifestMs))),
      cpuSeconds: of('cpuSeconds'),
      peakMib: Math.round(of('peakMib')),
    };
  });
  const difference = (rows[1]?.manifestMs ?? 0) - (rows[0]?.manifestMs ?? 0);
  if (flags.json) {
    process.stdout.write(
      `${JSON.stringify({ targetMs: TARGET_MS, differenceMs: difference, rows }, null, 2)}\n`,
    );
    return;
  }
  process.stdout.write('blobs    index    first manifest (worst)    blob      cpu     peak memory\n');
  for (const row of rows) {
    process.stdout.write(
      `${String(row.blobs).padEnd(8)} ${`${row.indexMib} MiB`.padEnd(8)} ${`${row.manifestMs} ms (${row.worstMs} ms)`.padEnd(25)} ${`${row.blobMs} ms`.padEnd(9)} ${`${row.cpuSeconds.toFixed(2)} s`.padEnd(7)} ${row.peakMib} MiB\n`,
    );
  }
  process.stdout.write(
    `more for the blobs: ${difference} ms; target: ${TARGET_MS} ms from spawn to answer\n`,
  );
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
