import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeTuningView, PoolTuningView, TuningCheckView } from '../../shared/wire/api.ts';
import { checkTuning } from '../pools/tuning-check.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { HubClient } from './hub-client.ts';
import { type CliIo, EXIT } from './io.ts';
import { table } from './tables.ts';

/** Longest value in a column; the rest is in --json. */
const MAX_CELL_CHARS = 100;

interface CommonFlags extends HubFlags {
  readonly json?: true;
}

/** `tuning explain`, `show` and `check`. */
export function addTuning(program: Command, io: CliIo, exit: (code: number) => void): void {
  const tuning = program.command('tuning').description('say which settings hold where, and why');
  const write = <T>(value: T, json: boolean | undefined, show: (value: T) => string): void => {
    io.stdout.write(json === true ? `${JSON.stringify(value)}\n` : show(value));
  };
  withHub(tuning.command('explain'))
    .description('show each setting of a node and the entry that it comes from')
    .requiredOption('--node <name>', 'whose')
    .option('--json', 'JSON instead of a table')
    .action(async ({ node, json, ...flags }: CommonFlags & { node: string }) => {
      write(await hubClient(flags, io).nodeTuning(node), json, explainTable);
    });
  withHub(tuning.command('show'))
    .description('show what the agents of a pool are told')
    .requiredOption('--pool <name>', 'which')
    .option('--json', 'JSON instead of tables')
    .action(async ({ pool, json, ...flags }: CommonFlags & { pool: string }) => {
      write(await hubClient(flags, io).poolTuning(pool), json, poolText);
    });
  withHub(tuning.command('check'))
    .description('check files for mistakes, without a hub; exit code 1 when there are any')
    .argument('<file...>', 'a ConfigMap, or kinds by themselves, as YAML')
    .option('--against <url>', 'a running hub: show also what the files would change on its nodes')
    .option('--json', 'JSON instead of lines')
    .action(async (files: string[], { against, json, ...flags }: CommonFlags & { against?: string }) => {
      exit(
        await runCheck(
          { client: against === undefined ? undefined : hubClient({ ...flags, hub: against }, io), io },
          files,
          json === true,
        ),
      );
    });
}

interface Mistake {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

async function runCheck(
  { client, io }: { readonly client: HubClient | undefined; readonly io: CliIo },
  files: readonly string[],
  json: boolean,
): Promise<number> {
  const mistakes: Mistake[] = [];
  const praise: string[] = [];
  let data: Readonly<Record<string, string>> = {};
  for (const file of files) {
    const checked = checkTuning(await readText(file));
    mistakes.push(...checked.offences.map((offence) => ({ file, ...offence })));
    const kinds = Object.keys(checked.data).length;
    praise.push(
      `${file}: ${count(checked.entries, 'entry', 'entries')} of ${count(kinds, 'kind', 'kinds')}, no mistake\n`,
    );
    data = { ...data, ...checked.data };
  }
  const sound = mistakes.length === 0;
  const changes = client === undefined || !sound ? undefined : await client.checkTuning(data);
  if (json) {
    io.stdout.write(
      `${JSON.stringify({ problems: mistakes, ...(changes === undefined ? {} : { changes }) })}\n`,
    );
  } else {
    for (const { file, line, message } of mistakes) io.stdout.write(`${file}:${line}: ${message}\n`);
    if (sound) io.stdout.write(praise.join(''));
    if (changes !== undefined) io.stdout.write(changesText(changes));
    else if (client !== undefined) io.stderr.write('what it would change is shown once it is sound\n');
  }
  return sound && (changes?.problems.length ?? 0) === 0 ? EXIT.ok : EXIT.failed;
}

/** @throws TidepoolError INVALID_ARGUMENT */
async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `cannot read ${file}: ${describeError(error)}`, {
      cause: error,
    });
  }
}

export function explainTable(view: NodeTuningView): string {
  const { node, pool, gateway, tuningHash, applied, settings, problems } = view;
  const state =
    tuningHash === null
      ? 'the node is in no pool, and is told nothing'
      : applied === tuningHash
        ? `in force (${tuningHash.slice(0, 8)})`
        : applied === null
          ? 'the node has not said yet what it has in force'
          : `not in force yet: the node has ${applied.slice(0, 8)}, its pool ${tuningHash.slice(0, 8)}`;
  const rows = settings.map(({ setting, value, from, over }) => [
    setting,
    cell(value),
    from === null ? 'default' : `${from.kind}/${from.entry}`,
    over.map((each) => `${cell(each.value)} (${each.from.kind}/${each.from.entry})`).join(', '),
  ]);
  return [
    `node ${node}, pool ${pool ?? '-'}${gateway ? ', a gateway' : ''}: ${state}\n`,
    table(['SETTING', 'VALUE', 'FROM', 'OVER'], rows),
    ...problems.map((problem) => `${node}: ${problem}\n`),
  ].join('');
}

export function poolText(view: PoolTuningView): string {
  const { pool, tuningHash, nodes, tuned, gateways, settings, byNode } = view;
  const rows = [
    ...flat(settings).map(([setting, value]) => ['every node', setting, cell(value)]),
    ...Object.entries(byNode).flatMap(([node, own]) =>
      flat(own).map(([setting, value]) => [node, setting, cell(value)]),
    ),
  ];
  return [
    `pool ${pool}: ${tuningHash.slice(0, 8)} in force on ${tuned} of ${count(nodes, 'node', 'nodes')}`,
    `; ${gateways.length === 0 ? 'every node goes over the WAN' : `gateways ${gateways.join(', ')}`}\n`,
    rows.length === 0 ? 'everything at its default\n' : table(['FOR', 'SETTING', 'VALUE'], rows),
  ].join('');
}

function changesText({ problems, changes, changeCount }: TuningCheckView): string {
  const rows = changes.map(({ pool, setting, before, after, nodes, sample }) => [
    pool,
    setting,
    before === null ? 'default' : cell(before),
    after === null ? 'default' : cell(after),
    nodes === 0 ? 'no node yet' : `${nodes}: ${sample.join(' ')}${nodes > sample.length ? ' …' : ''}`,
  ]);
  return [
    ...problems.map(({ message }) => `the hub says: ${message}\n`),
    rows.length === 0
      ? 'it would change nothing\n'
      : table(['POOL', 'SETTING', 'BEFORE', 'AFTER', 'NODES'], rows),
    changeCount > changes.length ? `… and ${changeCount - changes.length} more\n` : '',
  ].join('');
}

function flat(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, each]) => flat(each, path === '' ? key : `${path}.${key}`));
}

function cell(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_CELL_CHARS ? `${text.slice(0, MAX_CELL_CHARS)}…` : text;
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`;
}
