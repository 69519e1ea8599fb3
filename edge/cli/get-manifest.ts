import { formatImageRef, parseImageRef } from '../../shared/image-ref.ts';
import { formatBytes } from '../../shared/units.ts';
import { type AdminFlags, adminClient } from './admin.ts';
import { table } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import type { FetchedManifest } from './ops-client.ts';
import { accountOf } from './pull.ts';

export interface GetManifestFlags extends AdminFlags {
  readonly user?: string;
  readonly json?: boolean;
  readonly raw?: boolean;
}

/** Shows the manifest that a runtime would get for an image here. */
export async function getManifestCommand(
  io: CliIo,
  image: string,
  flags: GetManifestFlags,
): Promise<ExitCode> {
  parseImageRef(image);
  accountOf(flags.user);
  const client = await adminClient(io, flags);
  try {
    const fetched = await client.manifest(image, flags.user);
    if (flags.raw === true) io.stdout.write(fetched.bytes);
    else if (flags.json === true) io.stdout.write(`${JSON.stringify(asJson(image, fetched), null, 2)}\n`);
    else io.stdout.write(manifestText(image, fetched));
    return EXIT.ok;
  } finally {
    await client.close();
  }
}

function asJson(image: string, { digest, mediaType, bytes, staleSince }: FetchedManifest): unknown {
  const manifest: unknown = JSON.parse(bytes.toString('utf8'));
  return { image: formatImageRef(parseImageRef(image)), digest, mediaType, staleSince, manifest };
}

export function manifestText(image: string, fetched: FetchedManifest): string {
  const { digest, mediaType, bytes, staleSince } = fetched;
  const facts = [
    ['image', formatImageRef(parseImageRef(image))],
    ['digest', digest],
    ['type', mediaType],
    ['size', formatBytes(bytes.length)],
    ...(staleSince === undefined
      ? []
      : [['as of', `${staleSince}: the registry could not be asked, a record of the pool answered`]]),
  ];
  const json: unknown = JSON.parse(bytes.toString('utf8'));
  const rows = [
    ...listOf(json, 'config').map((item) => row('config', item)),
    ...listOf(json, 'layers').map((item) => row('layer', item)),
    ...listOf(json, 'manifests').map((item) => row(platformOf(item), item)),
  ];
  return `${table(facts)}${rows.length === 0 ? '' : `\n${table(rows)}`}`;
}

function row(name: string, item: unknown): string[] {
  const size = fieldOf(item, 'size');
  return [
    name,
    String(fieldOf(item, 'digest') ?? ''),
    typeof size === 'number' ? formatBytes(size) : '',
    String(fieldOf(item, 'mediaType') ?? ''),
  ];
}

function platformOf(item: unknown): string {
  const platform = fieldOf(item, 'platform');
  const parts = ['os', 'architecture', 'variant'].map((key) => fieldOf(platform, key));
  return parts.filter((part) => typeof part === 'string').join('/') || 'manifest';
}

function listOf(value: unknown, key: string): unknown[] {
  const found = fieldOf(value, key);
  return Array.isArray(found) ? found : found === undefined ? [] : [found];
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.entries(value).find(([name]) => name === key)?.[1]
    : undefined;
}
