/**
 * A plain HTTP client that reads bodies one after the other over one connection, as fast as they come. Run inside a
 * host's namespace: `stream-client.ts URL…`, prints one JSON line ({@link StreamResult}).
 */
import { createHash } from 'node:crypto';
import { Agent, get } from 'node:http';

export interface StreamResult {
  readonly seconds: number;
  readonly bytes: number;
  /** In the order of the URLs. */
  readonly bodies: readonly {
    readonly status: number;
    readonly bytes: number;
    /** Seconds from the start of the whole run until this body's first byte. */
    readonly firstByte: number;
    readonly sha256: string;
  }[];
}

type Body = StreamResult['bodies'][number];

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const accept = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  '*/*',
].join(', ');

function read(url: string, started: number): Promise<Body> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent, headers: { accept } }, (response) => {
      const hash = createHash('sha256');
      let bytes = 0;
      let firstByte = 0;
      response.on('data', (chunk: Buffer) => {
        if (bytes === 0) firstByte = (performance.now() - started) / 1000;
        bytes += chunk.length;
        hash.update(chunk);
      });
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, bytes, firstByte, sha256: hash.digest('hex') });
      });
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

const started = performance.now();
const bodies: Body[] = [];
for (const url of process.argv.slice(2)) bodies.push(await read(url, started));
agent.destroy();
const result: StreamResult = {
  seconds: (performance.now() - started) / 1000,
  bytes: bodies.reduce((sum, body) => sum + body.bytes, 0),
  bodies,
};
console.log(JSON.stringify(result));
