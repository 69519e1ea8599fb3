import { type Command, Option } from 'commander';
import { systemClock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { parseDuration } from '../../shared/units.ts';
import { type ApiTokenView, type AuditEntryView, ROLES, type Role } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';
import { table } from './tables.ts';

interface Flags extends HubFlags {
  readonly json?: true;
}

/** `api-token create`, `list`, `delete`, and `audit`. */
export function addAccess(program: Command, io: CliIo): void {
  const tokens = program
    .command('api-token')
    .description("tokens by which people and programs use the hub's API; nodes join by `token`");
  withHub(tokens.command('create'))
    .description('make one; it is shown once, the hub keeps a hash')
    .requiredOption('--name <name>', 'who it is for, as the audit log will tell it')
    .addOption(
      new Option(
        '--role <role>',
        'view: look; operate: prefetches too; admin: nodes, tokens and certificates too',
      )
        .choices(ROLES)
        .makeOptionMandatory(),
    )
    .option('--ttl <duration>', 'how long it is good, as 90d; for ever when left out')
    .option('--json', 'JSON for scripts')
    .action(async (flags: Flags & { name: string; role: Role; ttl?: string }) => {
      const { name, role, ttl, json } = flags;
      const made = await hubClient(flags, io).createApiToken({
        name,
        role,
        ...(ttl === undefined ? {} : { ttlMs: parseDuration(ttl) }),
      });
      io.stdout.write(json === true ? `${JSON.stringify(made)}\n` : `${made.token}\n`);
    });
  withHub(tokens.command('list'))
    .description('show all, without what is secret of them')
    .option('--json', 'JSON instead of a table')
    .action(async (flags: Flags) => {
      const found = await hubClient(flags, io).apiTokens();
      io.stdout.write(flags.json === true ? `${JSON.stringify(found)}\n` : tokensTable(found));
    });
  withHub(tokens.command('delete'))
    .description('take one back, at once')
    .argument('<name>', 'its name')
    .action(async (name: string, flags: Flags) => hubClient(flags, io).deleteApiToken(name));

  withHub(program.command('audit'))
    .description('show who has changed what by way of the API, the oldest first')
    .option('--since <when>', 'a time as 2026-01-31T08:00Z, or how long ago, as 2h')
    .option('--json', 'JSON lines instead of a table')
    .action(async (flags: Flags & { since?: string }) => {
      const since = flags.since === undefined ? undefined : sinceOf(flags.since, systemClock.now());
      const entries = await hubClient(flags, io).audit(since);
      io.stdout.write(
        flags.json === true
          ? entries.map((entry) => `${JSON.stringify(entry)}\n`).join('')
          : auditTable(entries),
      );
    });
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function sinceOf(text: string, now: number): number {
  // A time of day stands in the one, and a duration is digits and a unit.
  if (/^\d{4}-/.test(text)) {
    const at = Date.parse(text);
    if (Number.isFinite(at)) return at;
    throw new TidepoolError('INVALID_ARGUMENT', `--since: not a time: ${quote(text)}`);
  }
  return now - parseDuration(text);
}

function tokensTable(tokens: readonly ApiTokenView[]): string {
  if (tokens.length === 0) return 'no tokens\n';
  return table(
    ['NAME', 'ROLE', 'MADE', 'ENDS'],
    tokens.map(({ name, role, createdAt, expiresAt, expired }) => [
      name,
      role,
      new Date(createdAt).toISOString(),
      expiresAt === null ? 'never' : `${new Date(expiresAt).toISOString()}${expired ? ' (over)' : ''}`,
    ]),
  );
}

function auditTable(entries: readonly AuditEntryView[]): string {
  if (entries.length === 0) return 'no changes\n';
  return table(
    ['WHEN', 'WHO', 'FROM', 'WHAT', 'OF', 'OUTCOME'],
    entries.map(({ at, who, from, action, object, outcome, status }) => [
      new Date(at).toISOString(),
      who,
      from,
      action,
      object,
      status === undefined ? outcome : `${outcome} (${status})`,
    ]),
  );
}
