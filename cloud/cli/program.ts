import { Command, CommanderError, Option } from 'commander';
import { describeError, isTidepoolError } from '../../shared/errors.ts';
import { LOG_LEVELS } from '../../shared/log.ts';
import { DEFAULTS, type WrittenSettings } from '../config/settings.ts';
import { addAccess } from './access-commands.ts';
import { addBackup } from './backup-command.ts';
import { addBroker } from './broker-command.ts';
import { addBundle } from './bundle-command.ts';
import { addCa } from './ca-command.ts';
import { addHelmHooks } from './helm-hook.ts';
import { type CliIo, EXIT } from './io.ts';
import { addNodes } from './nodes-command.ts';
import { addPools } from './pools-command.ts';
import { addPrefetch } from './prefetch-commands.ts';
import { runHub } from './run-command.ts';
import { addTokens } from './token-command.ts';
import { addTuning } from './tuning-command.ts';

/**
 * Runs one command line; never throws. 0 ok, 1 failed, 2 wrong usage.
 * @param args without the interpreter and the script
 */
export async function runCli(args: readonly string[], version: string, io: CliIo): Promise<number> {
  let code: number = EXIT.ok;
  const program = build(version, io, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (io.signal.aborted) return EXIT.failed;
    io.stderr.write(`tidepool-hub: ${describeError(error)}\n`);
    const usage = isTidepoolError(error, 'INVALID_ARGUMENT') || isTidepoolError(error, 'INVALID_CONFIG');
    return usage ? EXIT.usage : EXIT.failed;
  }
}

function build(version: string, io: CliIo, exit: (code: number) => void): Command {
  const program = new Command('tidepool-hub')
    .description('Tells node pools what to hold and how, and shows what they do.')
    .version(version, '-V, --version')
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
    })
    .showHelpAfterError('(tidepool-hub --help tells more)')
    .showSuggestionAfterError()
    .exitOverride()
    // What stands behind the name of a command belongs to that command.
    .enablePositionalOptions()
    .addHelpText('after', '\nExit codes: 0 ok, 1 failed, 2 wrong usage or settings.\n');
  addRun(program, version, io, exit);
  addPools(program, io, exit);
  addNodes(program, io, exit);
  addPrefetch(program, io, exit);
  addTuning(program, io, exit);
  addTokens(program, io);
  addCa(program, io);
  addAccess(program, io);
  addBroker(program, io);
  addBundle(program, io);
  addBackup(program, version, io);
  addHelmHooks(program, version, io, exit);
  return program;
}

function addRun(program: Command, version: string, io: CliIo, exit: (code: number) => void): void {
  program
    .command('run')
    .description('run the hub')
    .option('--config <file>', 'settings as YAML; flags go over it')
    .option(
      '--documents <dir>',
      'YAML documents: Node, NodePool, ConfigMap tidepool-tuning, ImagePrefetch; followed while they change',
    )
    .option('--kubernetes', 'the same from the cluster that this pod is in, instead of --documents')
    .option('--kubeconfig <file>', 'the same from the cluster that this file names, from anywhere')
    .option(
      '--namespace <name>',
      `of the tuning ConfigMap, the lease and pull secrets (default: ${DEFAULTS.namespace})`,
    )
    .option(
      '--broker <embedded|url>',
      `MQTT broker: embedded, or mqtt://host:port (default: ${DEFAULTS.broker})`,
    )
    .option(
      '--broker-ca <file>',
      'authority that a broker elsewhere has its certificate of, PEM; its host name counts then',
    )
    .option(
      '--broker-node <name>',
      'node whose certificate a broker elsewhere shows (default: one that shows the hub’s)',
    )
    .option('--mqtt <host:port>', `where the embedded broker listens (default: ${DEFAULTS.mqtt})`)
    .option('--api <host:port>', `where the HTTP API listens (default: ${DEFAULTS.api})`)
    .option('--open-metrics', '/metrics without a token')
    .option(
      '--registry <name=url>',
      'where a registry is, when not at https and its own name (repeatable)',
      (value: string, before: string[]) => [...before, value],
      [],
    )
    .option('--no-pin-tags', 'ask no registry: agents find out themselves what tags name')
    .option('--data <dir>', `what the hub has to remember (default: ${DEFAULTS.data})`)
    .option('--insecure', 'accept plain connections and nodes that nobody vouches for: for experiments')
    .addOption(
      new Option('--log-level <level>', `how much to log (default: ${DEFAULTS.logLevel})`).choices(
        LOG_LEVELS,
      ),
    )
    .action(async ({ config, ...flags }: WrittenSettings & { config?: string }) => {
      exit(await runHub(flags, config, version, io));
    });
}
