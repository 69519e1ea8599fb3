import type { Content } from '../transfer/types.ts';
import type { Exchange } from './exchange.ts';
import { noneMatchHits, parseAuthorization, parsePriority } from './request-headers.ts';
import type { Subject } from './route.ts';
import type { MirrorStats } from './stats.ts';

/** `GET|HEAD /v2/<repository>/manifests/<reference>`. @throws what the content throws */
export async function serveManifest(
  components: { readonly content: Content; readonly stats: MirrorStats },
  exchange: Exchange,
  route: Subject & { readonly reference: string },
): Promise<void> {
  const { registry, repository, reference } = route;
  const manifest = await exchange.wait(
    components.content.manifest({
      registry,
      repository,
      reference,
      credentials: parseAuthorization(exchange.header('authorization')),
      priority: parsePriority(exchange.header('x-dragonfly-priority')),
      signal: exchange.signal,
    }),
    'neither the pool nor the origin answered for the manifest',
  );
  const { digest, staleSince } = manifest;
  const etag = `"${digest}"`;
  let stale: Record<string, string> = {};
  if (staleSince !== undefined) {
    components.stats.staleAnswer();
    const since = new Date(staleSince).toISOString();
    stale = {
      Warning: `110 - "the origin cannot be asked; this is what the tag was at ${since}"`,
      'Tidepool-Stale-Since': since,
    };
  }
  if (noneMatchHits(exchange.header('if-none-match'), etag)) {
    const headers = { 'Docker-Content-Digest': digest, ETag: etag, ...stale };
    return exchange.send({ status: 304, headers, body: new Uint8Array() });
  }
  return exchange.send({
    status: 200,
    headers: {
      'Content-Type': manifest.mediaType,
      'Content-Length': manifest.bytes.length,
      'Docker-Content-Digest': digest,
      ETag: etag,
      ...stale,
    },
    body: manifest.bytes,
  });
}
