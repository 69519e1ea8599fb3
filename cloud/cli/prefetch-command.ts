import { type Clock, delay } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { PrefetchCondition, PrefetchRequest, PrefetchView } from '../../shared/wire/api.ts';
import type { HubClient } from './hub-client.ts';
import { type CliIo, EXIT } from './io.ts';
import { LiveArea, progressLines } from './progress.ts';
import { isOver, prefetchTable, remarks } from './tables.ts';

const POLL_MS = 500;
/** Without a terminal a line is written this often, and when something ends. */
const PLAIN_LINE_MS = 10_000;
/** The hub may be restarted while somebody waits. */
const MAX_MISSES = 60;

export interface PrefetchFlags {
  readonly images: readonly string[];
  readonly pools: readonly string[];
  readonly nodes: readonly string[];
  readonly all: boolean;
  readonly platforms: readonly string[];
  readonly id: string | undefined;
  readonly retain?: string | undefined;
  readonly wait: boolean;
  readonly json: boolean;
}

/** Starts a prefetch; the answer is the exit code. */
export async function runPrefetch(
  { client, clock, io }: { readonly client: HubClient; readonly clock: Clock; readonly io: CliIo },
  flags: PrefetchFlags,
): Promise<number> {
  const view = await client.createPrefetch(requestOf(flags));
  if (flags.wait) return await watchPrefetch({ client, clock, io }, view, flags.json);
  io.stdout.write(flags.json ? `${JSON.stringify(view)}\n` : prefetchTable([view]));
  return EXIT.ok;
}

/** Follows a job to its end; the answer is the exit code. */
export async function watchPrefetch(
  { client, clock, io }: { readonly client: HubClient; readonly clock: Clock; readonly io: CliIo },
  first: PrefetchView,
  json: boolean,
): Promise<number> {
  const view = await waitFor(client, clock, io, first, json);
  if (json) io.stdout.write(`${JSON.stringify(view)}\n`);
  else for (const remark of remarks(view)) io.stderr.write(remark);
  return view.failed > 0 || !isThrough(view) ? EXIT.failed : EXIT.ok;
}

/** Nothing further will happen, or nothing unless a person does something. */
function hasEnded(view: PrefetchView): boolean {
  return isThrough(view) || view.conditions?.some(isTrue('Failed')) === true;
}

function isThrough(view: PrefetchView): boolean {
  return isOver(view) || view.conditions?.some(isTrue('Complete')) === true;
}

function isTrue(type: string): (condition: PrefetchCondition) => boolean {
  return (each) => each.type === type && each.status === 'True';
}

async function waitFor(
  client: HubClient,
  clock: Clock,
  io: CliIo,
  first: PrefetchView,
  quiet: boolean,
): Promise<PrefetchView> {
  const area = quiet || io.stdout.isTTY !== true ? undefined : new LiveArea((text) => io.stdout.write(text));
  const columns = io.stdout.columns ?? 80;
  let view = first;
  let misses = 0;
  let lineAt = Number.NEGATIVE_INFINITY;
  let ended = -1;
  const told = new Set<string>();
  for (;;) {
    const over = hasEnded(view);
    // What is in the way is told at once: who waits for an unknown pool would wait for ever without a word.
    for (const problem of quiet || over ? [] : view.problems) {
      if (!told.has(problem)) io.stderr.write(`${view.id}: ${problem}\n`);
      told.add(problem);
    }
    const now = clock.mono();
    const through = view.succeeded + view.failed + view.skipped;
    if (area !== undefined) {
      area.draw(progressLines(view, columns));
    } else if (!quiet && (over || through !== ended || now - lineAt >= PLAIN_LINE_MS)) {
      io.stdout.write(`${view.id}: ${progressLines(view, 1000).at(-1)}\n`);
      lineAt = now;
      ended = through;
    }
    if (over) return view;
    await delay(clock, POLL_MS, io.signal);
    try {
      view = await client.prefetch(view.id);
      misses = 0;
    } catch (error) {
      const gone = !(error instanceof TidepoolError) || error.code !== 'HUB_UNREACHABLE';
      if (gone || ++misses > MAX_MISSES) throw error;
    }
  }
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function requestOf({
  images,
  pools,
  nodes,
  all,
  platforms,
  id,
  retain,
}: Omit<PrefetchFlags, 'wait' | 'json'>): PrefetchRequest {
  if (!all && pools.length === 0 && nodes.length === 0) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      'say where: --pool NAME, --node NAME, or --all for every node',
    );
  }
  if (all && (pools.length > 0 || nodes.length > 0)) {
    throw new TidepoolError('INVALID_ARGUMENT', '--all is every node; leave out --pool and --node');
  }
  return {
    ...(id === undefined ? {} : { id }),
    images: images.map((image) => ({ image, ...(platforms.length === 0 ? {} : { platforms }) })),
    ...(pools.length === 0 ? {} : { pools }),
    ...(nodes.length === 0 ? {} : { nodes }),
    ...(retain === undefined ? {} : { retain }),
  };
}
