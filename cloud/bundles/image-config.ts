import type { Descriptor } from '../../shared/registry/descriptors.ts';
import { formatPlatform, parsePlatform } from '../../shared/registry/platform.ts';

const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
const CONFIG_TYPE = /^application\/vnd\.(oci\.image\.config|docker\.container\.image)\.v1\+json$/;

/** What an image that is no index is for, as its config says; undefined where that is none of a container's. */
export async function platformInConfig(
  config: Descriptor,
  chunks: AsyncIterable<Uint8Array>,
): Promise<string | undefined> {
  if (!CONFIG_TYPE.test(config.mediaType) || config.size > MAX_CONFIG_BYTES) return undefined;
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (length > config.size) return undefined;
    parts.push(chunk);
  }
  return platformOf(Buffer.concat(parts).toString('utf8'));
}

function platformOf(text: string): string | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof json !== 'object' || json === null) return undefined;
  const { os, architecture, variant }: { os?: unknown; architecture?: unknown; variant?: unknown } = json;
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined;
  const written = formatPlatform({
    os,
    architecture,
    ...(typeof variant === 'string' && variant !== '' ? { variant } : {}),
  });
  try {
    return formatPlatform(parsePlatform(written));
  } catch {
    return undefined;
  }
}
