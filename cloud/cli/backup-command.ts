import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { systemClock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { formatBytes } from '../../shared/units.ts';
import { DEFAULTS } from '../config/settings.ts';
import {
  type Backup,
  formatBackup,
  makeBackup,
  parseBackup,
  restoreBackup,
  trustIn,
  writeSecretly,
} from '../data/backup.ts';
import type { CliIo } from './io.ts';

/** `backup` and `restore`. They work on the data directory: the hub's API hands out no keys. */
export function addBackup(program: Command, version: string, io: CliIo): void {
  program
    .command('backup')
    .description('write what the hub remembers to one file; the hub may run meanwhile')
    .requiredOption('-o, --output <file>', 'where to; only its owner may read it. - for standard output')
    .option('--data <dir>', "the hub's data", DEFAULTS.data)
    .addHelpText(
      'after',
      '\nExample, with the hub in a pod:\n  (umask 077; kubectl -n tidepool exec deploy/tidepool-hub -- tidepool-hub backup -o - > hub-backup.json)',
    )
    .action(async ({ output, data }: { output: string; data: string }) => {
      if (output === '-' && io.stdout.isTTY === true) {
        throw new TidepoolError(
          'INVALID_ARGUMENT',
          'a backup holds keys, and this is a terminal; name a file, or send the output to one',
        );
      }
      const backup = await makeBackup({ clock: systemClock }, { directory: data, version });
      const text = formatBackup(backup);
      if (output === '-') {
        io.stdout.write(text);
        io.stderr.write(trustText(backup));
        return;
      }
      try {
        await writeSecretly(output, text);
      } catch (error) {
        throw new TidepoolError('INVALID_ARGUMENT', `${output} cannot be written: ${describeError(error)}`, {
          cause: error,
        });
      }
      io.stdout.write(
        `${output}: ${backup.files.length} files, ${formatBytes(Buffer.byteLength(text))}. Keep it where keys are kept.\n${trustText(backup)}`,
      );
    });
  program
    .command('restore')
    .description('put a backup into an empty data directory; then start the hub on it')
    .argument('<file>', 'what backup wrote; - for standard input')
    .option('--data <dir>', 'where to; it must be empty, or not be there yet', DEFAULTS.data)
    .addHelpText(
      'after',
      '\nStop the old hub for good before the restored one starts. Agents go over by themselves when they know both addresses (--hub, given twice).',
    )
    .action(async (file: string, { data }: { data: string }) => {
      const backup = parseBackup(await readBackup(file), file === '-' ? 'standard input' : file);
      const { files, epoch } = await restoreBackup({ clock: systemClock }, backup, data);
      io.stdout.write(
        `${data}: ${files} files as of ${backup.createdAt}, epoch ${epoch}\n${trustText(backup)}`,
      );
    });
}

/** What of the hub's trust is in it, and where the rest is. */
function trustText(backup: Backup): string {
  switch (trustIn(backup)) {
    case 'all':
      return "It has the authority's key, and the book of nodes with all that were revoked when it was made.\n";
    case 'book':
      return "It has the book of nodes, and not the authority's key: that is where trust.caCert and trust.caKey say.\n";
    case 'roots':
      return "The authority's key and the book of nodes are not in it. In Kubernetes they are Secrets, which have to be saved and put back too:\n  kubectl -n NAMESPACE get secret tidepool-hub-trust tidepool-hub-trust-book -o yaml\n(other names where trust.secret says so)\n";
    case 'none':
      return 'It has no authority: this hub is insecure, or was never started.\n';
  }
}

async function readBackup(file: string): Promise<string> {
  try {
    return await readFile(file === '-' ? '/dev/stdin' : file, 'utf8');
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `${file} cannot be read: ${describeError(error)}`, {
      cause: error,
    });
  }
}
