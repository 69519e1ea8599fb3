/**
 * A registry front that misbehaves or guards in one way, before a healthy registry:
 * `origin-proxy.ts --listen HOST:PORT --upstream URL [--no-range] [--corrupt] [--bearer USER:PASSWORD]`
 *
 * - `--no-range` answers every blob from its first byte, as origins without Range do;
 * - `--corrupt` turns over one byte in every 64 KiB of a blob: what a machine with bad memory reads;
 * - `--bearer` asks for a token (realm `/token` here) that only these credentials get.
 */
import { randomBytes } from 'node:crypto';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { pipeline, Transform } from 'node:stream';
import { parseArgs } from 'node:util';

const CORRUPT_EVERY = 64 * 1024;
const TOKEN_SECONDS = 300;

const { values } = parseArgs({
  options: {
    listen: { type: 'string' },
    upstream: { type: 'string' },
    'no-range': { type: 'boolean', default: false },
    corrupt: { type: 'boolean', default: false },
    bearer: { type: 'string' },
  },
});
const { listen, upstream } = values;
if (listen === undefined || upstream === undefined) throw new Error('--listen and --upstream are needed');
const [host = '', port = ''] = listen.split(':');
const agent = new Agent({ keepAlive: true });
const tokens = new Set<string>();

/** Turns over one byte in every {@link CORRUPT_EVERY}, at places that depend on the blob's offsets alone. */
function corruptor(start: number): Transform {
  let offset = start;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const copy = Buffer.from(chunk);
      const first = Math.ceil(offset / CORRUPT_EVERY) * CORRUPT_EVERY - offset;
      for (let at = first; at < copy.length; at += CORRUPT_EVERY) copy[at] = (copy[at] ?? 0) ^ 0xff;
      offset += copy.length;
      done(null, copy);
    },
  });
}

function giveToken(incoming: IncomingMessage, outgoing: ServerResponse): void {
  const expected = `Basic ${Buffer.from(values.bearer ?? '').toString('base64')}`;
  if (incoming.headers.authorization !== expected) {
    outgoing.writeHead(401).end('wrong user or password\n');
    return;
  }
  const token = randomBytes(24).toString('hex');
  tokens.add(token);
  outgoing.writeHead(200, { 'content-type': 'application/json' });
  outgoing.end(JSON.stringify({ token, access_token: token, expires_in: TOKEN_SECONDS }));
}

function refused(incoming: IncomingMessage, outgoing: ServerResponse): boolean {
  if (values.bearer === undefined) return false;
  const token = /^Bearer (.+)$/i.exec(incoming.headers.authorization ?? '')?.[1];
  if (token !== undefined && tokens.has(token)) return false;
  const repository = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(incoming.url ?? '')?.[1];
  const scope = repository === undefined ? '' : `,scope="repository:${repository}:pull"`;
  const body = JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] });
  outgoing.writeHead(401, {
    'www-authenticate': `Bearer realm="http://${listen}/token",service="lab"${scope}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  });
  outgoing.end(incoming.method === 'HEAD' ? undefined : body);
  return true;
}

createServer((incoming, outgoing) => {
  if (values.bearer !== undefined && incoming.url?.startsWith('/token') === true) {
    giveToken(incoming, outgoing);
    return;
  }
  if (refused(incoming, outgoing)) return;
  const isBlob = incoming.url?.includes('/blobs/') === true;
  const { authorization: _authorization, range, 'if-range': ifRange, ...rest } = incoming.headers;
  const headers = { ...rest };
  if (!(values['no-range'] && isBlob)) {
    if (range !== undefined) headers.range = range;
    if (ifRange !== undefined) headers['if-range'] = ifRange;
  }
  const outward = request(
    new URL(incoming.url ?? '/', upstream),
    { agent, method: incoming.method ?? 'GET', headers },
    (answer) => {
      const { 'accept-ranges': ranges, ...answered } = answer.headers;
      const keep = ranges === undefined || (values['no-range'] && isBlob) ? {} : { 'accept-ranges': ranges };
      outgoing.writeHead(answer.statusCode ?? 502, { ...answered, ...keep });
      const start = Number(/^bytes (\d+)-/.exec(answer.headers['content-range'] ?? '')?.[1] ?? 0);
      const done = (): void => undefined;
      if (values.corrupt && isBlob && incoming.method === 'GET') {
        pipeline(answer, corruptor(start), outgoing, done);
      } else {
        pipeline(answer, outgoing, done);
      }
    },
  );
  outward.on('error', (error) => {
    if (outgoing.headersSent) outgoing.destroy(error);
    else outgoing.writeHead(502).end(`${error.message}\n`);
  });
  outgoing.on('close', () => outward.destroy());
  incoming.pipe(outward);
}).listen(Number(port), host);
