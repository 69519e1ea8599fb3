import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseDigest, quote } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { parsePlatform } from '../../shared/registry/platform.ts';
import { formatBytes, parseDuration } from '../../shared/units.ts';
import {
  type BundleSigned,
  MAX_BUNDLE_LIFETIME_MS,
  type PoolInventoryView,
} from '../../shared/wire/bundles.ts';
import {
  type CreatedBundle,
  createBundle,
  type PoolHoldings,
  type StatementSigner,
} from '../bundles/create-bundle.ts';
import { registriesOf } from '../config/settings.ts';
import { accountIn } from '../registry/docker-config.ts';
import { RegistryClient } from '../registry/registry-client.ts';
import { RegistryMap } from '../registry/registry-map.ts';
import type { Account, RegistryEntry } from '../registry/types.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';

interface Flags extends HubFlags {
  readonly output: string;
  readonly platform: string[];
  readonly since: string[];
  readonly pool?: string;
  readonly registry: string[];
  readonly registryCa: string[];
  readonly dockerConfig?: string;
  readonly lifetime: string;
  readonly unsigned?: true;
  readonly json?: true;
}

const repeated = (value: string, before: string[]): string[] => [...before, value];

/** `bundle create`: images as one file, for pools that have no way to a registry. */
export function addBundle(program: Command, io: CliIo): void {
  const bundle = program
    .command('bundle')
    .description('carry images to pools as files')
    .enablePositionalOptions();
  withHub(bundle.command('create'))
    .description(
      'write images from their registries to one file, an OCI image layout that the hub has signed',
    )
    .argument('<image...>', 'with tag, digest or both')
    .requiredOption('-o, --output <file>', 'where to; it appears there whole or not at all')
    .option(
      '--platform <os/arch>',
      'of images for several, these alone (repeatable; default: all)',
      repeated,
      [],
    )
    .option(
      '--since <bundle>',
      'leave out what is in this one; a pool that imports it must have that (repeatable)',
      repeated,
      [],
    )
    .option(
      '--pool <name>',
      'leave out what all nodes of this pool have by prefetches; it is for that pool alone then',
    )
    .option('--lifetime <time>', 'how long agents take it', '90d')
    .option(
      '--registry <name=url>',
      'where a registry is, when not at https and its own name (repeatable)',
      repeated,
      [],
    )
    .option(
      '--registry-ca <name=file>',
      'authority that has signed the certificate of a registry, PEM, in place of the usual ones (repeatable)',
      repeated,
      [],
    )
    .option('--docker-config <file>', 'accounts for registries, as docker login keeps them')
    .option('--unsigned', 'do not ask the hub; agents take such a bundle only when told to')
    .option('--json', 'JSON for scripts')
    .addHelpText(
      'after',
      `
The file is read by other tools too: skopeo copy oci-archive:FILE:NAME, ctr images import FILE.
On a node of the pool: tidepool-agent bundle import FILE

Examples:
  tidepool-hub bundle create docker.io/library/nginx:1.29 -o nginx.tar
  tidepool-hub bundle create shop/app:2 --since app-1.tar --platform linux/arm64 -o app-2.tar`,
    )
    .action(async (images: string[], flags: Flags) => {
      const made = await create(images, flags, io);
      io.stdout.write(flags.json === true ? `${JSON.stringify(made)}\n` : text(flags.output, made));
    });
}

async function create(images: readonly string[], flags: Flags, io: CliIo): Promise<CreatedBundle> {
  const lifetimeMs = parseDuration(flags.lifetime);
  if (!(lifetimeMs >= 60_000 && lifetimeMs <= MAX_BUNDLE_LIFETIME_MS)) {
    throw new TidepoolError('INVALID_ARGUMENT', '--lifetime: from 1m to 366d');
  }
  const refs = images.map(parseImageRef);
  const platforms = flags.platform.map(parsePlatform);
  const config = await readConfig(flags.dockerConfig);
  const entries = await withAuthorities(await registriesOf({}, flags.registry), flags.registryCa);
  const registry = new RegistryClient({ map: new RegistryMap(entries) });
  const signer: StatementSigner | undefined =
    flags.unsigned === true
      ? undefined
      : async (statement) => {
          const request = { statement: statement.toString('base64'), lifetimeMs };
          const signed = await hubClient(flags, io).call<BundleSigned>('POST', '/v1/bundles/sign', request);
          return Buffer.from(signed.file, 'base64');
        };
  const held = flags.pool === undefined ? undefined : await holdingsOf(flags.pool, flags, io);
  const accountFor = (name: string): Account | undefined => accountIn(config, name);
  const show = progress(io, flags.json === true);
  try {
    return await createBundle(
      { registry, accountFor, sign: signer },
      {
        images: refs,
        platforms,
        since: flags.since,
        held,
        file: flags.output,
        signal: io.signal,
        onProgress: show,
      },
    );
  } finally {
    await registry.close();
  }
}

async function holdingsOf(pool: string, flags: Flags, io: CliIo): Promise<PoolHoldings> {
  const path = `/v1/pools/${encodeURIComponent(pool)}/inventory`;
  const { images, platforms } = await hubClient(flags, io).call<PoolInventoryView>('GET', path);
  if (images.length === 0) {
    io.stderr.write(`the hub knows of nothing that all nodes of pool ${pool} have: nothing is left out\n`);
  }
  return {
    pool,
    images: images.map(({ image, digest }) => ({ ...parseImageRef(image), digest: parseDigest(digest) })),
    platforms: platforms.map(parsePlatform),
  };
}

/** A line of its own on a terminal, nothing elsewhere. */
function progress(io: CliIo, quiet: boolean): (done: number, total: number) => void {
  if (quiet || io.stdout.isTTY !== true) return () => undefined;
  let shown = -1;
  return (done, total) => {
    const percent = Math.floor((done / total) * 100);
    if (percent === shown) return;
    shown = percent;
    const end = done >= total ? '\r\x1b[K' : '';
    io.stderr.write(`\r${percent} % of ${formatBytes(total)}\x1b[K${end}`);
  };
}

/** @throws TidepoolError INVALID_ARGUMENT */
async function withAuthorities(
  entries: Readonly<Record<string, RegistryEntry>>,
  flags: readonly string[],
): Promise<Record<string, RegistryEntry>> {
  const found: Record<string, RegistryEntry> = { ...entries };
  for (const flag of flags) {
    const at = flag.indexOf('=');
    const [name, file] = [flag.slice(0, at), flag.slice(at + 1)];
    if (at <= 0 || file === '') {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `--registry-ca: ${quote(flag)}; write it like registry.example:5000=our-ca.pem`,
      );
    }
    let ca: string;
    try {
      ca = await readFile(file, 'utf8');
    } catch (error) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `--registry-ca: ${file} cannot be read: ${describeError(error)}`,
      );
    }
    found[name] = { url: found[name]?.url ?? new RegistryMap({}).resolve(name).base.href, ca };
  }
  return found;
}

async function readConfig(file: string | undefined): Promise<unknown> {
  if (file === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `--docker-config: ${file} cannot be read: ${describeError(error)}`,
    );
  }
  try {
    return JSON.parse(text);
  } catch {
    // Without the parser's words: they quote what stands in it.
    throw new TidepoolError('INVALID_ARGUMENT', `--docker-config: ${file} is no JSON`);
  }
}

function text(file: string, { bytes, images, platforms, leftOutBytes, expires }: CreatedBundle): string {
  const parts = [
    `${file}: ${formatBytes(bytes)}`,
    ...images.map((image) => `  ${image}`),
    `for ${platforms.join(', ') || 'no platform'}`,
    ...(leftOutBytes === 0 ? [] : [`left out, because it is there already: ${formatBytes(leftOutBytes)}`]),
    expires === undefined
      ? 'not signed: agents take it with --unsigned alone'
      : `signed; agents take it until ${new Date(expires).toISOString()}`,
  ];
  return `${parts.join('\n')}\n`;
}
