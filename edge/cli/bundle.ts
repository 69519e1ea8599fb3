import { Readable } from 'node:stream';
import type { Command } from 'commander';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { bundleSource, writeBundleFile } from '../../shared/oci-layout/bundle-file.ts';
import { formatBytes } from '../../shared/units.ts';
import type { BundleEvent } from '../ops/api.ts';
import { type AdminFlags, adminClient } from './admin.ts';
import { formatSeconds } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { accountOf } from './pull.ts';

interface ImportFlags extends AdminFlags {
  readonly check?: true;
  readonly unsigned?: true;
  readonly anyPlatform?: true;
  readonly json?: true;
}

interface ExportFlags extends AdminFlags {
  readonly output: string;
  readonly platform?: readonly string[];
  readonly user?: string;
  readonly json?: true;
}

/** Where there is no terminal, a line of progress at most this often. */
const LINE_MS = 1_000;

const list = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

/** `bundle import` and `bundle export`: images as files, where no registry can be reached. */
export function addBundle(program: Command, io: CliIo, ended: (code: ExitCode) => void): void {
  const bundle = program
    .command('bundle')
    .description('bring images into the pool from a file, and out of it');
  const admin = (name: string, description: string): Command =>
    bundle
      .command(name)
      .description(description)
      .option('--data <dir>', 'where the agent keeps its data (default: by --config, else /var/lib/tidepool)')
      .option('--ops <ip:port>', 'where the agent answers (default: 127.0.0.1:6182)')
      .option('--config <file>', "the agent's settings, to find it by (default: $TIDEPOOL_CONFIG)");
  admin('import <file>', 'take in a bundle: a file, a device such as /dev/sdb, or - for standard input')
    .option('--check', 'read and check all of it, and keep nothing')
    .option('--any-platform', 'also images that this node cannot run, for its neighbours')
    .option('--unsigned', 'also one that the hub has not signed: you vouch for it')
    .option('--json', 'each step as one line of JSON')
    .addHelpText(
      'after',
      `
All of a bundle is taken in or nothing. From then on its images can be pulled by tag and digest on every node of the pool,
with or without a registry and a hub.

Examples:
  tidepool-agent bundle import /media/stick/nginx.tar
  ssh hub cat app.tar | tidepool-agent bundle import -`,
    )
    .action(async (file: string, flags: ImportFlags) => ended(await importCommand(io, file, flags)));
  admin('export <image...>', 'write images that the pool has to a bundle')
    .requiredOption('-o, --output <file>', 'where to; it appears there whole or not at all')
    .option('--platform <os/arch>', "instead of this node's own; again for more", list)
    .option('--user <user:password>', 'account at the registry')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
Images that came in a bundle of the hub's go out with its signature, so that another pool takes them as they are; a bundle
of others is taken with --unsigned alone.

Example:
  tidepool-agent bundle export docker.io/library/nginx:1.29 -o nginx.tar`,
    )
    .action(async (images: string[], flags: ExportFlags) => ended(await exportCommand(io, images, flags)));
}

async function importCommand(io: CliIo, file: string, flags: ImportFlags): Promise<ExitCode> {
  let unread: unknown;
  const source = Readable.from(bundleSource(file), { objectMode: false });
  source.on('error', (error) => {
    unread = error;
  });
  const client = await adminClient(io, flags);
  const options = [
    ...(flags.check === true ? ['check'] : []),
    ...(flags.unsigned === true ? ['unsigned'] : []),
    ...(flags.anyPlatform === true ? ['anyPlatform'] : []),
  ];
  const show = flags.json === true ? jsonLines(io) : lines(io);
  let last: BundleEvent | undefined;
  try {
    for await (const event of client.importBundle(source, options)) {
      last = event;
      show(event);
    }
  } catch (error) {
    if (unread === undefined) throw error;
    throw new TidepoolError('INVALID_ARGUMENT', `${file} cannot be read: ${describeError(unread)}`, {
      cause: unread,
    });
  } finally {
    source.destroy();
    await client.close();
  }
  if (last?.type === 'done') {
    if (flags.json !== true) io.stdout.write(summary(last, flags.check === true));
    return EXIT.ok;
  }
  if (last?.type !== 'error') throw new TidepoolError('INTERNAL', 'the agent went away before the end');
  if (flags.json !== true) io.stderr.write(`error: ${last.message} (${last.code})\n`);
  return EXIT.failed;
}

async function exportCommand(io: CliIo, images: readonly string[], flags: ExportFlags): Promise<ExitCode> {
  for (const image of images) parseImageRef(image);
  const account = accountOf(flags.user);
  const client = await adminClient(io, flags);
  try {
    const wanted = { images, platforms: flags.platform, ...account };
    const { bytes, isSigned, tar } = await client.exportBundle(wanted);
    await writeBundleFile(flags.output, tar);
    const signed = isSigned
      ? "with the hub's signatures"
      : 'without a signature of the hub: it is taken with --unsigned alone';
    io.stdout.write(
      flags.json === true
        ? `${JSON.stringify({ file: flags.output, bytes, signed: isSigned })}\n`
        : `${flags.output}: ${formatBytes(bytes)}, ${signed}\n`,
    );
    return EXIT.ok;
  } finally {
    await client.close();
  }
}

function jsonLines(io: CliIo): (event: BundleEvent) => void {
  return (event) => io.stdout.write(`${JSON.stringify(event)}\n`);
}

/** How far it is, and how fast: in one place on a terminal, line by line elsewhere. */
function lines(io: CliIo): (event: BundleEvent) => void {
  const startedAt = io.clock.mono();
  const isTerminal = io.stderr.isTTY === true;
  let nextAt = Number.NEGATIVE_INFINITY;
  return (event) => {
    if (event.type !== 'progress') {
      if (isTerminal) io.stderr.write('\r\x1b[K');
      return;
    }
    const now = io.clock.mono();
    if (!isTerminal && now < nextAt) return;
    nextAt = now + LINE_MS;
    const seconds = Math.max(0.001, (now - startedAt) / 1000);
    const { doneBytes, totalBytes } = event;
    const text = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${formatBytes(doneBytes / seconds)}/s`;
    io.stderr.write(isTerminal ? `\r${text}\x1b[K` : `${text}\n`);
  };
}

const WORDS = {
  hub: 'signed by the hub',
  images: 'signed by the hub, image by image',
  nobody: 'not signed',
} as const;

function summary(done: Extract<BundleEvent, { type: 'done' }>, isCheck: boolean): string {
  const { images, word, bytes, newBytes, seconds } = done;
  const kept = isCheck ? 'good; nothing was kept' : `${formatBytes(newBytes)} of it new here`;
  const names = images.map(({ name, digest }) => `${name} ${digest}\n`).join('');
  return `${names}${formatBytes(bytes)} in ${formatSeconds(seconds)}, ${WORDS[word]}: ${kept}\n`;
}
