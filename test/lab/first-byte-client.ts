/**
 * Asks a mirror as containerd does (HEAD tag, manifest, then every layer at once) and stops at the first byte of each:
 * `first-byte-client.ts BASE REPOSITORY TAG NS`, prints one JSON line ({@link FirstBytes}).
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';

export interface FirstBytes {
  /** Seconds from the first request until the manifest was there. */
  readonly manifest: number;
  /** Seconds from the first request until each layer's first byte, in the manifest's order. */
  readonly layers: readonly number[];
}

const [base = '', repository = '', tag = '', ns = ''] = process.argv.slice(2);

function ask(
  method: string,
  kind: string,
  reference: string,
): { sent: ClientRequest; answer: Promise<IncomingMessage> } {
  const url = `${base}/v2/${repository}/${kind}/${reference}?ns=${encodeURIComponent(ns)}`;
  const accept = 'application/vnd.oci.image.manifest.v1+json, */*';
  const sent = request(url, { method, headers: { accept } });
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    sent.on('response', (response) => {
      if (response.statusCode === 200) resolve(response);
      else reject(new Error(`${method} ${url} was answered with ${response.statusCode}`));
    });
    sent.on('error', reject);
  });
  sent.end();
  return { sent, answer };
}

async function layersOf(reference: string): Promise<string[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of await ask('GET', 'manifests', reference).answer) chunks.push(chunk as Buffer);
  const manifest = JSON.parse(Buffer.concat(chunks).toString()) as { layers: { digest: string }[] };
  return manifest.layers.map((layer) => layer.digest);
}

const started = performance.now();
const elapsed = (): number => (performance.now() - started) / 1000;
const head = await ask('HEAD', 'manifests', tag).answer;
head.resume();
const digests = await layersOf(String(head.headers['docker-content-digest'] ?? tag));
const manifest = elapsed();
const asked = digests.map((digest) => ask('GET', 'blobs', digest));
const layers = await Promise.all(
  asked.map(async ({ answer }) => {
    const response = await answer;
    return await new Promise<number>((resolve, reject) => {
      response.once('data', () => resolve(elapsed()));
      response.once('error', reject);
    });
  }),
);
const result: FirstBytes = { manifest, layers };
console.log(JSON.stringify(result));
for (const { sent } of asked) sent.on('error', () => undefined).destroy();
