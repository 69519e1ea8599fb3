import type { Command } from 'commander';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { parseDuration } from '../../shared/units.ts';
import type { JoinTokenMade, JoinTokenRequest, JoinTokenView } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';
import { table } from './tables.ts';

interface Flags extends HubFlags {
  readonly json?: true;
}

interface CreateFlags extends Flags {
  readonly pool: string;
  readonly ttl: string;
  readonly uses: string;
}

/** `token create`, `list` and `delete`: what lets nodes in. */
export function addTokens(program: Command, io: CliIo): void {
  const tokens = program
    .command('token')
    .description('join tokens, which let nodes into a pool; people and programs have an `api-token`');
  withHub(tokens.command('create'))
    .description('make one and print it; it is shown once, the hub keeps a hash')
    .requiredOption('--pool <name>', 'the pool that its nodes get into')
    .option('--ttl <duration>', 'how long it is good', '1h')
    .option('--uses <n>', 'how many nodes it lets in', '1')
    .option('--json', 'JSON for scripts')
    .addHelpText(
      'after',
      '\nOn the node: tidepool run --join TOKEN, or --join-file FILE. The token holds the hash of the authority,\nso the node knows the hub before it says anything; whoever has it may join the pool, so pass it on like a password.',
    )
    .action(async ({ pool, ttl, uses, json, ...flags }: CreateFlags) => {
      const wanted: JoinTokenRequest = { pool, ttlMs: parseDuration(ttl), uses: countOf(uses) };
      const made = await hubClient(flags, io).call<JoinTokenMade>('POST', '/v1/tokens', wanted);
      io.stdout.write(json === true ? `${JSON.stringify(made)}\n` : `${made.token}\n`);
    });
  withHub(tokens.command('list'))
    .description('show all, without what is secret of them')
    .option('--json', 'JSON instead of a table')
    .action(async ({ json, ...flags }: Flags) => {
      const found = await hubClient(flags, io).call<readonly JoinTokenView[]>('GET', '/v1/tokens');
      io.stdout.write(json === true ? `${JSON.stringify(found)}\n` : tokensTable(found));
    });
  withHub(tokens.command('delete'))
    .description('take one back; nodes that it has let in stay')
    .argument('<id>', 'as `token list` shows it: the second part of the token')
    .action(async (id: string, flags: Flags) => {
      await hubClient(flags, io).call<null>('DELETE', `/v1/tokens/${encodeURIComponent(id)}`);
    });
}

function tokensTable(tokens: readonly JoinTokenView[]): string {
  if (tokens.length === 0) return 'no join tokens\n';
  return table(
    ['ID', 'POOL', 'USED', 'ENDS'],
    tokens.map(({ id, pool, uses, used, expiresAt, over }) => [
      id,
      pool,
      `${used} of ${uses}`,
      `${new Date(expiresAt).toISOString()}${over ? ' (over)' : ''}`,
    ]),
  );
}

function countOf(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new TidepoolError('INVALID_ARGUMENT', `--uses: not a number of nodes: ${quote(text)}`);
}
