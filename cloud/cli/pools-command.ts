import type { Command } from 'commander';
import { systemClock } from '../../shared/clock.ts';
import type { PoolView, PrefetchView } from '../../shared/wire/api.ts';
import { addBootstrap } from './bootstrap-command.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';
import { type Listing, runListing } from './listing.ts';
import { listFlags } from './nodes-command.ts';
import { progressLines } from './progress.ts';
import { isOver, POOL_COLUMNS, PREFETCH_COLUMNS, remarks, stateOf } from './tables.ts';

interface PoolsFlags extends HubFlags {
  readonly json?: true;
  readonly watch?: true;
  readonly wide?: true;
  readonly pool?: string;
  readonly offline?: true;
}

/** `pools` and `prefetches`. */
export function addPools(program: Command, io: CliIo, exit: (code: number) => void): void {
  const list = (name: string, description: string): Command =>
    withHub(program.command(name))
      .description(description)
      .option('--wide', 'all columns, also where the terminal is narrow')
      .option('--json', 'JSON instead of a table, one line an answer')
      .option('--watch', 'follow changes until interrupted');
  const pools = list('pools', 'show pools, their nodes and their traffic')
    // What stands behind `pools bootstrap` is about that.
    .enablePositionalOptions()
    .option('--pool <name>', 'only this one')
    .option('--offline', 'only those with nodes that are out of reach')
    .addHelpText('after', '\nSPARED: what of all bytes came from neighbours and not over the uplink.')
    .action(async ({ pool, offline, ...flags }: PoolsFlags) => {
      const fits = (each: PoolView): boolean =>
        (pool === undefined || each.pool === pool) && (offline !== true || each.online < each.nodes);
      const filtered = pool !== undefined || offline === true;
      const listing: Listing<PoolView> = {
        read: async () => (await hubClient(flags, io).pools()).filter(fits),
        columns: () => POOL_COLUMNS,
        key: (each) => each.pool,
        empty: filtered ? 'no such pools' : 'no pools: no document names one, and no agent has come up',
      };
      exit(await runListing({ clock: systemClock, io }, listing, listFlags(flags)));
    });
  addBootstrap(pools, io);
  list('prefetches', 'show prefetches and their progress')
    .option('--pool <name>', 'only those with nodes of this pool')
    .action(async ({ pool, ...flags }: PoolsFlags) => {
      const listing: Listing<PrefetchView> = {
        read: async () =>
          [...(await hubClient(flags, io).prefetches())]
            .filter((view) => pool === undefined || view.pools.some((each) => each.pool === pool))
            .sort((a, b) => (a.id < b.id ? -1 : 1)),
        columns: () => PREFETCH_COLUMNS,
        key: ({ id }) => id,
        empty: 'no prefetches',
        remarks: (rows) => rows.flatMap(remarks).map((line) => line.trimEnd()),
        live: liveLines,
      };
      exit(await runListing({ clock: systemClock, io }, listing, listFlags(flags)));
    });
}

/** Bars of what moves, a line of what does not. */
function liveLines(views: readonly PrefetchView[], columns: number): readonly string[] {
  if (views.length === 0) return ['no prefetches'];
  return views.flatMap((view) =>
    isOver(view) || view.suspend || view.desired === 0
      ? [`${view.id}: ${stateOf(view)}, ${progressLines(view, columns).at(-1)}`]
      : [`${view.id}:`, ...progressLines(view, columns)],
  );
}
