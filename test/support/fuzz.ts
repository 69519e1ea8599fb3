/** Malformed inputs by the thousand, over real sockets, and what a server must have kept to. */
import { connect, type NetConnectOpts } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { byDepth } from './depth.ts';

export const INPUTS = byDepth({ part: 2_500, whole: 10_000 });
/** In the names of tests. */
export const MANY = INPUTS.toLocaleString('en');
/** No answer, and no refusal, may take longer; the machine may be busy with other tests, and 48 of these are under way. */
export const SLOWEST_MS = 5_000;
/** What the second half of the inputs may leave in memory; of 10,000, one kept thing of 1 KiB an input would be 5 MiB. */
export const GROWTH_BYTES = 3 * 1024 * 1024;

const CONCURRENCY = 48;
/** A client that has said all it wants and hears nothing closes its side: what is incomplete then has an end. */
const PATIENCE_MS = 20;
const GIVE_UP_MS = 3 * SLOWEST_MS;

export interface Outcome {
  readonly slowestMs: number;
  /** The input that took that long, for a person. */
  readonly slowest: string;
  /** Bytes of heap that the second half of the inputs left. */
  readonly growth: number;
  /** Answers by status; `none` for connections that were just closed. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly unhandled: readonly unknown[];
}

/** The same inputs at each run with the seed, which is printed. */
export function inputs<T>(what: string, arbitrary: fc.Arbitrary<T>, seed: number, count = INPUTS): T[] {
  console.log(`fuzzing ${what}: ${count} inputs, seed ${seed}`);
  return fc.sample(arbitrary, { numRuns: count, seed });
}

/** Calls `act` with every input in two halves, and tells what that left behind. Whatever it throws ends the run. */
export async function bombard<T>(
  given: readonly T[],
  act: (input: T) => Promise<string> | string,
  show: (input: T) => string,
): Promise<Outcome> {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  let slowestMs = 0;
  let slowest = '';
  const statuses: Record<string, number> = {};
  const one = async (input: T): Promise<void> => {
    const begun = performance.now();
    let status: string;
    try {
      status = await act(input);
    } catch (error) {
      throw new Error(`with ${show(input)}`, { cause: error });
    }
    const ms = performance.now() - begun;
    statuses[status] = (statuses[status] ?? 0) + 1;
    if (ms > slowestMs) {
      slowestMs = ms;
      slowest = show(input);
    }
  };
  const run = async (part: readonly T[]): Promise<void> => {
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let input = part[next++]; input !== undefined; input = part[next++]) await one(input);
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  };
  try {
    const middle = Math.floor(given.length / 2);
    await run(given.slice(0, middle));
    const before = await heapBytes();
    await run(given.slice(middle));
    return { slowestMs, slowest, growth: (await heapBytes()) - before, statuses, unhandled };
  } finally {
    process.off('unhandledRejection', note);
  }
}

/** Sends one input on a connection of its own; resolves with the first answer's status when the server has ended it. */
export function shoot(to: NetConnectOpts, bytes: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(to);
    let status = 'none';
    let first = true;
    const patience = setTimeout(() => socket.end(), PATIENCE_MS);
    const limit = setTimeout(() => {
      socket.destroy();
      reject(new Error(`the server has not ended it after ${GIVE_UP_MS} ms`));
    }, GIVE_UP_MS);
    socket.on('data', (chunk) => {
      if (!first) return;
      first = false;
      status = /^HTTP\/1\.1 (\d{3})/.exec(chunk.toString('latin1', 0, 20))?.[1] ?? 'no HTTP';
      clearTimeout(patience);
      socket.end();
    });
    // A server that hangs up on rubbish is right to.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(patience);
      clearTimeout(limit);
      resolve(status);
    });
    socket.write(bytes);
  });
}

async function heapBytes(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (typeof gc === 'function') gc();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const latin = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
  maxLength: 40,
});
const number = fc.oneof(
  fc.integer({ min: -5, max: 100_000 }).map(String),
  fc.constantFrom('', '-0', '00', '1e9', '0x10', '9007199254740993', '18446744073709551616', 'NaN'),
);
const DIGEST = `sha256:${'ab'.repeat(32)}`;

const segment = fc.oneof(
  fc.constantFrom(
    '..',
    '.',
    '',
    '%2e%2e',
    '%2f',
    '%00',
    '%',
    '%zz',
    '%ff',
    '*',
    '\\',
    ';',
    '~',
    'é',
    DIGEST,
    'sha256:',
    'sha512:aa',
    '_catalog',
    'uploads',
    'list',
    'tags',
    'manifests',
    'blobs',
    'referrers',
    'latest',
    'v1',
    'v2',
    'library',
    'app',
    'localhost',
    'reg.example:5000',
    '__proto__',
    'constructor',
  ),
  latin,
  fc.integer({ min: 1, max: 9_000 }).map((length) => 'a'.repeat(length)),
);

/** A path of pieces that mean something, and of those that should not. */
export function hostilePath(prefixes: readonly string[]): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.constantFrom(...prefixes),
      fc.array(segment, { maxLength: 6 }),
      fc.option(
        fc.array(
          fc.oneof(
            fc.constantFrom(
              'ns=',
              'ns=docker.io',
              'ns=%00',
              'n=1',
              'last=',
              '&',
              '=',
              '?',
              '#',
              'limit=1',
              'digest=x',
            ),
            latin,
          ),
          { maxLength: 4 },
        ),
      ),
    )
    .map(
      ([prefix, segments, query]) =>
        `${prefix}${segments.join('/')}${query === null ? '' : `?${query.join('&')}`}`,
    );
}

const range = fc
  .array(
    fc.tuple(number, number).map(([from, to]) => `${from}-${to}`),
    { maxLength: 400 },
  )
  .map((ranges) => `bytes=${ranges.join(',')}`);

/** Ranges that make sense, and that do not. */
export const rangeHeader = fc.tuple(
  fc.constant('Range'),
  fc.oneof(
    range,
    latin,
    fc.tuple(fc.nat(120_000), fc.nat(120_000)).map(([from, to]) => `bytes=${from}-${to}`),
  ),
);

const header = fc.oneof(
  rangeHeader,
  fc.tuple(
    fc.constant('Authorization'),
    fc.oneof(
      latin,
      latin.map((text) => `Basic ${Buffer.from(text, 'latin1').toString('base64')}`),
      latin.map((text) => `Bearer ${text}`),
    ),
  ),
  fc.tuple(fc.constant('Content-Length'), number),
  fc.tuple(
    fc.constant('Transfer-Encoding'),
    fc.constantFrom('chunked', 'gzip', 'chunked, chunked', 'identity'),
  ),
  fc.tuple(
    fc.constantFrom(
      'If-Range',
      'If-None-Match',
      'Accept',
      'X-Dragonfly-Priority',
      'Expect',
      'Upgrade',
      'Connection',
      'Host',
      'Accept-Encoding',
      'Content-Type',
      'Cookie',
    ),
    fc.oneof(
      latin,
      fc.constantFrom(
        '100-continue',
        'h2c',
        'websocket',
        'close',
        'upgrade',
        '*',
        '"x"',
        'W/"',
        'application/json',
      ),
    ),
  ),
  fc.tuple(latin, latin),
  fc.tuple(
    fc.constant('X'),
    fc.integer({ min: 0, max: 20_000 }).map((length) => 'y'.repeat(length)),
  ),
);

/** Requests that are nearly, or not at all, ones: raw bytes, and lines and headers of every kind. */
export function hostileRequests(
  paths: fc.Arbitrary<string>,
  headers: fc.Arbitrary<readonly [string, string]> = header,
): fc.Arbitrary<Buffer> {
  const method = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('GET', 'HEAD', 'POST') },
    {
      weight: 2,
      arbitrary: fc.constantFrom(
        'PUT',
        'PATCH',
        'DELETE',
        'OPTIONS',
        'CONNECT',
        'TRACE',
        'PRI',
        'get',
        'G T',
        '',
      ),
    },
    { weight: 1, arbitrary: latin },
  );
  const version = fc.oneof(
    { weight: 8, arbitrary: fc.constant('HTTP/1.1') },
    { weight: 1, arbitrary: fc.constantFrom('HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.11', 'HTTP', '') },
  );
  const body = fc.oneof(
    { weight: 4, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: latin },
    { weight: 1, arbitrary: fc.json({ maxDepth: 3 }) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        '5\r\nhello\r\n0\r\n\r\n',
        'ffffffffffffffff\r\n',
        '-1\r\n\r\n',
        '{"image":',
      ),
    },
  );
  const request = fc
    .tuple(
      method,
      paths,
      version,
      fc.array(fc.oneof(headers, header), { maxLength: 6 }),
      fc.constantFrom('\r\n', '\r\n', '\r\n', '\n'),
      body,
      // Mostly as HTTP has it, so that what lies behind the parser is reached.
      fc.integer({ min: 0, max: 9 }),
    )
    .map(([verb, path, protocol, lines, eol, rest, rough]) => {
      const tidy = rough > 2;
      const kept = tidy ? lines.filter(([name, value]) => isProper(name, value)) : lines;
      const line = tidy
        ? `${/^[A-Z]+$/.test(verb) ? verb : 'GET'} ${encoded(path)} HTTP/1.1`
        : `${verb} ${path} ${protocol}`;
      const end = tidy ? '\r\n' : eol;
      const length = tidy && rest !== '' && verb === 'POST' ? [`Content-Length: ${rest.length}`] : [];
      const text = [line, 'Host: x', ...length, ...kept.map(([name, value]) => `${name}: ${value}`)];
      return Buffer.from(`${text.join(end)}${end}${end}${tidy && length.length === 0 ? '' : rest}`, 'latin1');
    });
  return fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 8, arbitrary: request },
    {
      weight: 1,
      arbitrary: fc.array(request, { minLength: 2, maxLength: 5 }).map((many) => Buffer.concat(many)),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(request, fc.nat())
        .map(([whole, at]) => whole.subarray(0, at % Math.max(1, whole.length))),
    },
  );
}

/** Of a header that Node's parser takes, and that says nothing of where the request ends. */
function isProper(name: string, value: string): boolean {
  return (
    /^[A-Za-z0-9-]+$/.test(name) &&
    /^[\t\x20-\x7e\x80-\xff]{0,9000}$/.test(value) &&
    !/^(content-length|transfer-encoding|host|upgrade|expect|connection)$/i.test(name)
  );
}

function encoded(path: string): string {
  const text = [...path].map((char) => (/[!-~]/.test(char) ? char : encodeURIComponent(char))).join('');
  return text.startsWith('/') || text.startsWith('http') ? text : `/${text}`;
}

export function shown(bytes: Uint8Array): string {
  return JSON.stringify(Buffer.from(bytes).toString('latin1').slice(0, 500));
}
