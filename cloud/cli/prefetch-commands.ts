import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { systemClock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { formatBytes } from '../../shared/units.ts';
import type { PrefetchDetailView, PrefetchPlanView, PrefetchView } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub as withAccess } from './hub-access.ts';
import type { HubClient } from './hub-client.ts';
import type { CliIo } from './io.ts';
import { type ImportedJob, importPullJobs } from './kruise-import.ts';
import { type Listing, runListing } from './listing.ts';
import { listFlags } from './nodes-command.ts';
import { requestOf, runPrefetch, watchPrefetch } from './prefetch-command.ts';
import { PREFETCH_COLUMNS, prefetchTable, remarks, table } from './tables.ts';

/** Nodes shown one by one; `--json` has all of them. */
const MAX_NODES = 50;

interface Flags extends HubFlags {
  readonly json?: true;
}

interface StartFlags extends Flags {
  readonly pool: string[];
  readonly node: string[];
  readonly platform: string[];
  readonly all?: true;
  readonly id?: string;
  readonly wait?: true;
  readonly retain?: string;
}

/** `prefetch IMAGE…`, what is done with jobs (`prefetch list`, `show` …), and `cancel`. */
export function addPrefetch(program: Command, io: CliIo, exit: (code: number) => void): void {
  const clientOf = (flags: Flags): HubClient => hubClient(flags, io);
  const write = (value: unknown, { json }: Flags, text: () => string): void => {
    io.stdout.write(json === true ? `${JSON.stringify(value)}\n` : text());
  };
  const prefetch = withSelection(program.command('prefetch'))
    .description('have nodes fetch images before anybody asks for them; see the commands below for jobs')
    // What stands behind the name of a command belongs to that command.
    .enablePositionalOptions()
    .option('--id <id>', 'name of the job; asking again under the same name is no second job')
    .option(
      '--retain <time>',
      'how long nodes keep the images once they have them, as 30d; else while the job stands',
    )
    .option('--wait', 'until every node is through; progress on a terminal, exit code 1 when one failed')
    .action(async (images: string[], flags: StartFlags) => {
      const { pool, node, platform, id, retain } = flags;
      const all = flags.all === true;
      const chosen = { images, pools: pool, nodes: node, platforms: platform, all, id, retain };
      // What is wrong with the command itself is said before anything about the hub.
      requestOf(chosen);
      exit(
        await runPrefetch(
          { client: clientOf(flags), clock: systemClock, io },
          { ...chosen, wait: flags.wait === true, json: flags.json === true },
        ),
      );
    });
  const withHub = (command: Command): Command => withAccess(command.option('--json', 'JSON for scripts'));

  withHub(prefetch.command('list'))
    .description('show all jobs and their progress')
    .option('--wide', 'all columns, also where the terminal is narrow')
    .option('--watch', 'follow changes until interrupted')
    .action(async (flags: Flags & { wide?: true; watch?: true }) => {
      const client = clientOf(flags);
      const listing: Listing<PrefetchView> = {
        read: async () => [...(await client.prefetches())].sort((a, b) => (a.id < b.id ? -1 : 1)),
        columns: () => PREFETCH_COLUMNS,
        key: ({ id }) => id,
        empty: 'no prefetches',
        remarks: (rows) => rows.flatMap(remarks).map((line) => line.trimEnd()),
      };
      exit(await runListing({ clock: systemClock, io }, listing, listFlags(flags)));
    });
  withHub(prefetch.command('show'))
    .description('show a job: what it waits for, its pools, its nodes')
    .argument('<id>', 'name of the job')
    .action(async (id: string, flags: Flags) => {
      const view = await clientOf(flags).prefetch(id);
      write(view, flags, () => prefetchText(view));
    });
  withHub(prefetch.command('watch'))
    .description('follow a job until it is over; exit code 1 when a node failed')
    .argument('<id>', 'name of the job')
    .action(async (id: string, flags: Flags) => {
      const client = clientOf(flags);
      const first = await client.prefetch(id);
      exit(await watchPrefetch({ client, clock: systemClock, io }, first, flags.json === true));
    });
  for (const [name, suspend, description] of [
    ['suspend', true, 'stop fetching for a job; what has come stays'],
    ['resume', false, 'go on with a suspended job'],
  ] as const) {
    withHub(prefetch.command(name))
      .description(description)
      .argument('<id>', 'name of the job')
      .action(async (id: string, flags: Flags) => {
        const view = await clientOf(flags).suspendPrefetch(id, suspend);
        write(view, flags, () => prefetchTable([view]));
      });
  }
  withAccess(prefetch.command('delete'))
    .description('take a job back; what nodes hold already stays')
    .argument('<id>', 'name of the job')
    .action(async (id: string, flags: Flags) => clientOf(flags).deletePrefetch(id));
  withSelection(prefetch.command('plan'))
    .description('say how many bytes a prefetch would move over the uplink of each pool, and fetch nothing')
    .action(async (images: string[], flags: StartFlags) => {
      const { pool, node, platform } = flags;
      const all = flags.all === true;
      const selection = { images, pools: pool, nodes: node, platforms: platform, all, id: undefined };
      const request = requestOf(selection);
      const plan = await clientOf(flags).planPrefetch(request);
      write(plan, flags, () => planText(plan));
    });
  withAccess(prefetch.command('import'))
    .description('write Kruise ImagePullJobs as ImagePrefetches; what has no counterpart is said on stderr')
    .argument('<file>', 'YAML of apps.kruise.io; - reads from stdin')
    .option('--create', 'give them to the hub instead')
    .action(async (file: string, flags: Flags & { create?: true }) => {
      const jobs = importPullJobs(await read(file), file);
      for (const warning of jobs.flatMap(({ warnings }) => warnings)) io.stderr.write(`${warning}\n`);
      if (flags.create !== true) {
        io.stdout.write(jobs.map(documentOf).join('---\n'));
        return;
      }
      const client = clientOf(flags);
      const views: PrefetchView[] = [];
      for (const { name, spec } of jobs) views.push(await client.putPrefetch(name, spec));
      io.stdout.write(prefetchTable(views));
    });

  withAccess(program.command('cancel'))
    .description('the same as prefetch delete')
    .argument('<id>', 'name of the job')
    .action(async (id: string, flags: Flags) => clientOf(flags).deletePrefetch(id));
}

function withSelection(command: Command): Command {
  const collect = (value: string, before: string[]): string[] => [...before, value];
  return withAccess(command)
    .argument('<image...>', 'image references, as for docker pull')
    .option('--pool <name>', 'all nodes of this pool (repeatable)', collect, [])
    .option('--node <name>', 'this node (repeatable)', collect, [])
    .option('--all', 'every node of every pool')
    .option('--platform <os/arch>', "instead of each node's own (repeatable)", collect, [])
    .option('--json', 'JSON for scripts');
}

function prefetchText(view: PrefetchDetailView): string {
  const conditions = (view.conditions ?? []).filter(({ status }) => status === 'True');
  const lines = [
    `${view.id}`,
    ...view.images.map((image) => `  ${image}`),
    ...conditions.map(({ type, reason, message }) => `  ${type} (${reason}): ${message}`),
    ...(view.retainedUntil === undefined ? [] : [`  nodes keep the images until ${view.retainedUntil}`]),
    '',
  ];
  const pools = table(
    ['POOL', 'NODES', 'DONE', 'FAILED', 'OFFLINE', 'WAN', 'PEERS'],
    view.pools.map((row) => [
      row.pool,
      String(row.desired),
      String(row.succeeded),
      String(row.failed),
      String(row.offline ?? 0),
      formatBytes(row.wanBytes),
      formatBytes(row.peerBytes),
    ]),
  );
  const nodes = table(
    ['NODE', 'POOL', 'STATE', 'BYTES', 'WAN', 'PEERS', 'REASON'],
    view.nodes
      .slice(0, MAX_NODES)
      .map((row) => [
        row.node,
        row.pool,
        row.online ? row.state : `${row.state}, offline`,
        `${formatBytes(row.doneBytes)}/${formatBytes(row.totalBytes)}`,
        formatBytes(row.wanBytes),
        formatBytes(row.peerBytes),
        row.error === undefined ? '' : `${row.error.message} (${row.error.code})`,
      ]),
  );
  const more =
    view.nodes.length > MAX_NODES ? `… and ${view.nodes.length - MAX_NODES} more; --json has them\n` : '';
  const plan = view.dryRun === undefined ? '' : `\n${planText(view.dryRun)}`;
  return `${lines.join('\n')}\n${pools}\n${nodes}${more}${plan}`;
}

function planText(plan: PrefetchPlanView): string {
  const rows = plan.pools.map(({ name, nodes, wanBytes, upperBound }) => [
    name,
    String(nodes),
    formatBytes(wanBytes),
    upperBound ? 'upper bound: layers that the pool holds already are not known' : '',
  ]);
  const images = (plan.images ?? []).map(({ image, digest }) => `${image} is ${digest} now\n`).join('');
  return `${images}${table(['POOL', 'NODES', 'WAN', ''], rows)}${formatBytes(plan.wanBytes)} in all${plan.upperBound ? ' at most' : ''}\n`;
}

function documentOf({ name, spec }: ImportedJob): string {
  return stringify({
    apiVersion: 'tidepool.dev/v1alpha1',
    kind: 'ImagePrefetch',
    metadata: { name },
    spec,
  });
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file === '-' ? '/dev/stdin' : file, 'utf8');
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `${file} cannot be read: ${describeError(error)}`, {
      cause: error,
    });
  }
}
