import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SampleManifest } from './registry/image.ts';

/** A registry that says of every digest that its repositories have it, and sends rubbish in its place. */
export class HostileRegistry {
  /** Served as they are, under their digests and under the tag `v1` the first of them. */
  readonly manifests: SampleManifest[] = [];
  /** Digest that the tag `lie` is said to be. */
  lie = '';
  /** Bytes that it says a blob has. */
  blobBytes = 1;
  readonly requests: string[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      const { method = '', url = '' } = request;
      this.requests.push(`${method} ${url}`);
      const [, kind = '', reference = ''] = /\/(manifests|blobs)\/([^/?]+)$/.exec(url) ?? [];
      if (kind === '') {
        response.writeHead(200, { 'content-type': 'application/json' }).end('{"tags":["v1"]}');
        return;
      }
      const own = this.manifests.find(
        ({ digest }, n) => reference === digest || (n === 0 && reference === 'v1'),
      );
      if (kind === 'manifests') {
        const body = Buffer.from(own?.bytes ?? '{"schemaVersion":2}');
        response.writeHead(200, {
          'content-type': own?.mediaType ?? 'application/vnd.oci.image.manifest.v1+json',
          'content-length': body.length,
          'docker-content-digest': own?.digest ?? (reference === 'lie' ? this.lie : reference),
        });
        response.end(method === 'HEAD' ? undefined : body);
        return;
      }
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
      const start = Number(range?.[1] ?? 0);
      const end = range?.[2] === undefined || range[2] === '' ? this.blobBytes : Number(range[2]) + 1;
      response.writeHead(range === null ? 200 : 206, {
        'content-length': end - start,
        ...(range === null ? {} : { 'content-range': `bytes ${start}-${end - 1}/${this.blobBytes}` }),
      });
      response.end(method === 'HEAD' ? undefined : Buffer.alloc(end - start, 0x66));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
