import type { Command } from 'commander';
import { systemClock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeEventView, NodeMovedView, NodeRevokedView, NodeView } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';
import { type Listing, runListing } from './listing.ts';
import { eventColumns, nodeColumns, nodeText, runtimeRemarks } from './tables.ts';

interface NodesFlags extends HubFlags {
  readonly json?: true;
  readonly watch?: true;
  readonly wide?: true;
  readonly pool?: string;
  readonly offline?: true;
}

/** `nodes`, `nodes show`, `nodes move`, `nodes revoke` and `nodes forget`. */
export function addNodes(program: Command, io: CliIo, exit: (code: number) => void): void {
  const nodes = withHub(program.command('nodes'))
    .description('show nodes and their state')
    // `nodes show NAME --json` is about the one node.
    .enablePositionalOptions()
    .option('--pool <name>', 'only of this pool')
    .option('--offline', 'only those that are out of reach')
    .option('--wide', 'all columns, also where the terminal is narrow')
    .option('--json', 'JSON instead of a table, one line an answer')
    .option('--watch', 'follow changes until interrupted')
    .addHelpText(
      'after',
      '\nTUNING: whether the tuning of now is in force on the node. MIRROR: whether its pods are pulled by way of its agent.',
    )
    .action(async ({ pool, offline, ...flags }: NodesFlags) => {
      const listing = {
        read: async () =>
          (await hubClient(flags, io).nodes(pool)).filter(({ online }) => offline !== true || !online),
        columns: () => nodeColumns(systemClock.now()),
        key: ({ node }: NodeView) => node,
        empty: offline === true ? 'no node is offline' : 'no nodes',
        remarks: runtimeRemarks,
      };
      exit(await runListing({ clock: systemClock, io }, listing, listFlags(flags)));
    });
  withHub(nodes.command('show'))
    .description('show everything that is known of a node')
    .argument('<node>', 'its name')
    .option('--json', 'JSON instead of lines')
    .action(async (name: string, { json, ...flags }: NodesFlags) => {
      const node = await hubClient(flags, io).node(name);
      io.stdout.write(json === true ? `${JSON.stringify(node)}\n` : nodeText(node, systemClock.now()));
    });
  withHub(nodes.command('events'))
    .description(
      'show what happened on nodes, also while they were cut off: of one node, of a pool, or of all',
    )
    .argument('[node]', 'its name')
    .option('--pool <name>', 'of the nodes of this pool')
    .option('--wide', 'all columns, also where the terminal is narrow')
    .option('--json', 'JSON instead of a table')
    .addHelpText(
      'after',
      '\nCOUNT: so many became one while the hub was away; WHEN is the last of them, by the clock of the node.',
    )
    .action(async (name: string | undefined, { pool, ...flags }: NodesFlags) => {
      if (name !== undefined && pool !== undefined) {
        throw new TidepoolError('INVALID_ARGUMENT', 'give a node or --pool, not both');
      }
      const listing: Listing<NodeEventView> = {
        read: () => hubClient(flags, io).events(name === undefined ? { pool } : { node: name }),
        columns: () => eventColumns(systemClock.now()),
        key: ({ node, kind, heardAt }) => `${node} ${kind} ${heardAt}`,
        empty: 'no events',
      };
      exit(await runListing({ clock: systemClock, io }, listing, listFlags(flags)));
    });
  withHub(nodes.command('move'))
    .description('give an enrolled node certificates of another pool; its label does not count')
    .argument('<node>', 'its name')
    .requiredOption('--pool <name>', 'the pool it moves to')
    .action(async (name: string, { pool = '', ...flags }: NodesFlags) => {
      const path = `/v1/nodes/${encodeURIComponent(name)}/move`;
      const { told } = await hubClient(flags, io).call<NodeMovedView>('POST', path, { pool });
      io.stdout.write(
        told
          ? `node ${name} is told to move to pool ${pool}\n`
          : `node ${name} moves to pool ${pool} when it can be reached\n`,
      );
    });
  withHub(nodes.command('revoke'))
    .description('make every certificate of a node worthless: it was stolen, or is broken into')
    .argument('<node>', 'its name')
    .option('--json', 'JSON for scripts')
    .addHelpText(
      'after',
      '\nPools hear of it by the broker at once; those that are away when they are back. What it prints are the accounts\nthat the node was given: change them where they come from. Enrolling the name again takes a token and --replace.',
    )
    .action(async (name: string, { json, ...flags }: NodesFlags) => {
      const path = `/v1/nodes/${encodeURIComponent(name)}/revoke`;
      const view = await hubClient(flags, io).call<NodeRevokedView>('POST', path);
      io.stdout.write(json === true ? `${JSON.stringify(view)}\n` : revokedText(view));
    });
  withHub(nodes.command('credentials'))
    .description(
      'show which accounts of pull secrets a node was given for prefetches; passwords are kept nowhere',
    )
    .argument('<node>', 'its name')
    .option('--json', 'JSON for scripts')
    .action(async (name: string, { json, ...flags }: NodesFlags) => {
      const had = await hubClient(flags, io).nodeCredentials(name);
      const text = had.length === 0 ? 'it was given none\n' : accountsText(had);
      io.stdout.write(json === true ? `${JSON.stringify(had)}\n` : text);
    });
  withHub(nodes.command('forget'))
    .description(
      'take a node that is gone for good out of rosters and lists; one that comes back is a new one',
    )
    .argument('<node>', 'its name')
    .action(async (name: string, flags: NodesFlags) => {
      await hubClient(flags, io).forgetNode(name);
    });
}

function accountsText(accounts: NodeRevokedView['credentials']): string {
  return accounts
    .map(({ registry, username, secret }) => `  ${registry}: ${username} (secret ${secret})\n`)
    .join('');
}

function revokedText({ node, keys, credentials }: NodeRevokedView): string {
  return [
    `node ${node}: ${keys} ${keys === 1 ? 'key is' : 'keys are'} revoked\n`,
    ...(credentials.length === 0
      ? []
      : ['it was given these accounts, which have to be changed:\n', accountsText(credentials)]),
  ].join('');
}

/** Flags that all lists have. */
export function listFlags(flags: { readonly json?: true; readonly watch?: true; readonly wide?: true }): {
  readonly json: boolean;
  readonly watch: boolean;
  readonly wide: boolean;
} {
  return { json: flags.json === true, watch: flags.watch === true, wide: flags.wide === true };
}
