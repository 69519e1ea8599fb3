import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { formatBytes } from '../../shared/units.ts';
import type { PullEvent } from '../ops/api.ts';
import { type AdminFlags, adminClient } from './admin.ts';
import { formatSeconds, progressLine } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';

export interface PullFlags extends AdminFlags {
  readonly platform?: readonly string[];
  readonly user?: string;
  readonly runtime?: boolean;
  readonly json?: boolean;
}

/** Where there is no terminal, a line of progress at most this often. */
const LINE_MS = 1_000;

/** Has the running agent bring an image into the pool's store, and shows how. */
export async function pullCommand(io: CliIo, image: string, flags: PullFlags): Promise<ExitCode> {
  parseImageRef(image);
  const account = accountOf(flags.user);
  const client = await adminClient(io, flags);
  const show = flags.json === true ? jsonLines(io) : io.stderr.isTTY === true ? bar(io) : lines(io);
  let last: PullEvent | undefined;
  try {
    for await (const event of client.pull({
      image,
      platforms: flags.platform,
      ...account,
      ...(flags.runtime === true ? { runtime: true } : {}),
    })) {
      last = event;
      show(event);
    }
  } catch (error) {
    // What comes next shall not stand behind a half-drawn bar.
    if (last?.type === 'progress' && flags.json !== true && io.stderr.isTTY === true) io.stderr.write('\n');
    throw error;
  } finally {
    await client.close();
  }
  if (last?.type === 'done') return EXIT.ok;
  if (last?.type !== 'error') throw new TidepoolError('INTERNAL', 'the agent went away before the end');
  if (flags.json !== true) io.stderr.write(`error: ${last.message} (${last.code})\n`);
  return EXIT.failed;
}

/** `USER:PASSWORD`; a password may have colons. @throws TidepoolError INVALID_CONFIG */
export function accountOf(user: string | undefined): { username?: string; password?: string } {
  if (user === undefined) return {};
  const colon = user.indexOf(':');
  if (colon <= 0) throw new TidepoolError('INVALID_CONFIG', '--user: write it like USER:PASSWORD');
  return { username: user.slice(0, colon), password: user.slice(colon + 1) };
}

function jsonLines(io: CliIo): (event: PullEvent) => void {
  return (event) => io.stdout.write(`${JSON.stringify(event)}\n`);
}

function bar(io: CliIo): (event: PullEvent) => void {
  return (event) => {
    if (event.type === 'progress') io.stderr.write(`\r${progressLine(event, io.stderr.columns)}\x1b[K`);
    else io.stderr.write('\r\x1b[K');
    if (event.type === 'done') io.stdout.write(summary(event));
  };
}

function lines(io: CliIo): (event: PullEvent) => void {
  let nextAt = Number.NEGATIVE_INFINITY;
  return (event) => {
    if (event.type === 'done') io.stdout.write(summary(event));
    if (event.type !== 'progress' || event.totalBytes === 0) return;
    const now = io.clock.mono();
    if (now < nextAt) return;
    nextAt = now + LINE_MS;
    io.stderr.write(`${progressLine(event)}\n`);
  };
}

function summary(done: Extract<PullEvent, { type: 'done' }>): string {
  const { image, imageId, digest, seconds, totalBytes, wanBytes, peerBytes, staleSince } = done;
  const stale =
    staleSince === undefined
      ? ''
      : `the registry could not be asked; the tag is as of ${new Date(staleSince).toISOString()}\n`;
  return `${image}\n${digest}\n${formatBytes(totalBytes)} in ${formatSeconds(seconds)}: ${formatBytes(wanBytes)} over the WAN, ${formatBytes(peerBytes)} from neighbours\n${imageId === undefined ? '' : `in the container runtime as ${imageId}\n`}${stale}`;
}

/** One line for a person who sees a command fail. */
export function errorLine(error: unknown): string {
  const code = error instanceof TidepoolError && error.code !== 'INVALID_CONFIG' ? ` (${error.code})` : '';
  return `error: ${describeError(error)}${code}\n`;
}
