import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { BootstrapFile } from '../../shared/wire/bootstrap.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';

interface BootstrapFlags extends HubFlags {
  readonly output: string;
}

/** `pools bootstrap` */
export function addBootstrap(pools: Command, io: CliIo): void {
  withHub(pools.command('bootstrap'))
    .description('write what agents of a pool need at their first start, for nodes that cannot reach the hub')
    .argument('<pool>', 'its name')
    .requiredOption('-o, --output <file>', 'where to; - for standard output')
    .addHelpText(
      'after',
      '\nIt holds the neighbours, the tuning, whom to trust and the prefetches of the pool, each as the hub signed it.\n' +
        'On the node: tidepool-agent run --bootstrap FILE. The node needs a certificate besides.',
    )
    .action(async (pool: string, { output, ...flags }: BootstrapFlags) => {
      const file = await hubClient(flags, io).call<BootstrapFile>(
        'GET',
        `/v1/pools/${encodeURIComponent(pool)}/bootstrap`,
      );
      const text = `${JSON.stringify(file)}\n`;
      if (output === '-') {
        io.stdout.write(text);
        return;
      }
      await write(output, text);
      const signed = file.signed ? 'signed by the hub' : 'not signed: for agents with --insecure';
      io.stdout.write(`${output}: pool ${pool}, ${file.messages.length} messages, ${signed}\n`);
    });
}

/** Whole or not at all: half of one would be refused on the node, far from here. */
async function write(file: string, text: string): Promise<void> {
  const beside = `${path.resolve(file)}.new`;
  try {
    const handle = await open(beside, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw new TidepoolError('INVALID_ARGUMENT', `cannot write ${file}: ${describeError(error)}`, {
      cause: error,
    });
  }
}
