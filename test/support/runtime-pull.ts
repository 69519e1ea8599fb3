import { createHash } from 'node:crypto';
import { Agent, type IncomingMessage, request } from 'node:http';

const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  '*/*',
].join(', ');

export interface PullInit {
  /** Base URL of a mirror or a registry. */
  readonly mirror: string;
  /** What `?ns=` says; undefined for a plain registry. */
  readonly registry: string | undefined;
  readonly repository: string;
  /** Tag or digest. */
  readonly reference: string;
  /** Of an index: which manifest. */
  readonly platform: { readonly os: string; readonly architecture: string };
  readonly signal?: AbortSignal;
}

export interface Pulled {
  /** Of what the reference named: an index or a manifest. */
  readonly digest: string;
  /** Config and layers. */
  readonly blobBytes: number;
  readonly blobs: number;
  readonly seconds: number;
  /** Digests whose bytes were others than it says. */
  readonly wrong: readonly string[];
}

interface Described {
  readonly digest: string;
  readonly size: number;
}

/**
 * Pulls an image by HTTP in the order a runtime does: HEAD of the reference, manifests by digest, then config and layers
 * all at once. Every body is hashed; bytes that do not match are told, not thrown.
 * @throws Error for an answer other than 200, or a body of another length
 */
export async function pullImage(init: PullInit): Promise<Pulled> {
  const agent = new Agent({ keepAlive: true });
  const started = performance.now();
  const wrong: string[] = [];
  try {
    const head = await ask(init, agent, 'HEAD', 'manifests', init.reference);
    head.resume();
    const digest = String(head.headers['docker-content-digest'] ?? '');
    let { document, matches } = await manifest(init, agent, digest);
    if (!matches) wrong.push(digest);
    const child = childFor(document, init.platform);
    if (child !== undefined) {
      ({ document, matches } = await manifest(init, agent, child));
      if (!matches) wrong.push(child);
    }
    const blobs = blobsOf(document);
    await Promise.all(
      blobs.map(async (blob) => {
        const { sha256, bytes } = await readBlob(init, agent, blob.digest);
        if (bytes !== blob.size) throw new Error(`${blob.digest} has ${bytes} bytes, not ${blob.size}`);
        if (`sha256:${sha256}` !== blob.digest) wrong.push(blob.digest);
      }),
    );
    return {
      digest,
      blobBytes: blobs.reduce((sum, blob) => sum + blob.size, 0),
      blobs: blobs.length,
      seconds: (performance.now() - started) / 1000,
      wrong,
    };
  } finally {
    agent.destroy();
  }
}

async function manifest(
  init: PullInit,
  agent: Agent,
  digest: string,
): Promise<{ document: unknown; matches: boolean }> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of await ask(init, agent, 'GET', 'manifests', digest)) {
    if (!Buffer.isBuffer(chunk)) throw new Error('a body of text, not of bytes');
    length += chunk.length;
    if (length > MAX_MANIFEST_BYTES)
      throw new Error(`manifest ${digest} has over ${MAX_MANIFEST_BYTES} bytes`);
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  const document: unknown = JSON.parse(bytes.toString('utf8'));
  return { document, matches: `sha256:${createHash('sha256').update(bytes).digest('hex')}` === digest };
}

async function readBlob(
  init: PullInit,
  agent: Agent,
  digest: string,
): Promise<{ sha256: string; bytes: number }> {
  const response = await ask(init, agent, 'GET', 'blobs', digest);
  const hash = createHash('sha256');
  let bytes = 0;
  return new Promise((resolve, reject) => {
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      hash.update(chunk);
    });
    response.on('end', () => resolve({ sha256: hash.digest('hex'), bytes }));
    response.on('error', (error) => reject(new Error(`${digest}: ${error.message}`, { cause: error })));
  });
}

function ask(
  init: PullInit,
  agent: Agent,
  method: string,
  kind: 'manifests' | 'blobs',
  reference: string,
): Promise<IncomingMessage> {
  const { mirror, registry, repository, signal } = init;
  const query = registry === undefined ? '' : `?ns=${encodeURIComponent(registry)}`;
  const url = `${mirror}/v2/${repository}/${kind}/${reference}${query}`;
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method, agent, headers: { accept: ACCEPT }, ...(signal === undefined ? {} : { signal }) },
      (response) => {
        if (response.statusCode === 200) resolve(response);
        else void refusal(response).then((why) => reject(new Error(`${method} ${url}: ${why}`)));
      },
    );
    sent.on('error', (error) => reject(new Error(`${method} ${url}: ${error.message}`, { cause: error })));
    sent.end();
  });
}

async function refusal(response: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const chunk of response) text = `${text}${String(chunk)}`.slice(0, 500);
  } catch {
    // What came of the body is told.
  }
  return `${response.statusCode} ${text.trim()}`;
}

/** The digest that an index has for a platform; undefined for what is no index. */
function childFor(document: unknown, platform: PullInit['platform']): string | undefined {
  if (!isRecord(document) || !Array.isArray(document.manifests)) return undefined;
  const entries = document.manifests.filter(isRecord);
  const fitting = entries.find(
    (entry) =>
      isRecord(entry.platform) &&
      entry.platform.os === platform.os &&
      entry.platform.architecture === platform.architecture,
  );
  if (typeof fitting?.digest !== 'string') {
    throw new Error(`the index has nothing for ${platform.os}/${platform.architecture}`);
  }
  return fitting.digest;
}

function blobsOf(document: unknown): readonly Described[] {
  const described = isRecord(document)
    ? [document.config, ...(Array.isArray(document.layers) ? document.layers : [])]
    : [];
  const blobs = described.map((entry): Described => {
    if (!isRecord(entry) || typeof entry.digest !== 'string' || typeof entry.size !== 'number') {
      throw new Error('not a manifest with a config and layers');
    }
    return { digest: entry.digest, size: entry.size };
  });
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
