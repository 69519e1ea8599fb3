/** Serves as many bytes as the path says (`/200000000`) from memory: `lan-source.ts ADDRESS PORT`. */
import { createServer } from 'node:http';
import { pipeline, Readable } from 'node:stream';

const CHUNK = Buffer.alloc(1 << 20, 0x5a);

function* bytes(total: number): Generator<Buffer> {
  for (let left = total; left > 0; left -= CHUNK.length)
    yield CHUNK.subarray(0, Math.min(left, CHUNK.length));
}

const [address, port] = process.argv.slice(2);
createServer((request, response) => {
  const total = Number(request.url?.slice(1));
  if (!Number.isSafeInteger(total) || total < 0) {
    response.writeHead(400).end('the path is a number of bytes\n');
    return;
  }
  response.writeHead(200, { 'content-length': total });
  // A client that leaves early is no failure of the source.
  pipeline(Readable.from(bytes(total), { objectMode: false }), response, () => undefined);
}).listen(Number(port), address);
