import { Command, CommanderError, Option } from 'commander';
import { isTidepoolError } from '../../shared/errors.ts';
import { LOG_LEVELS } from '../../shared/log.ts';
import { VERSION } from '../version.ts';
import { addBundle } from './bundle.ts';
import { configureCommand, restoreCommand } from './containerd.ts';
import { checkCommand } from './containerd-check.ts';
import { type EnrollFlags, enrollCommand } from './enroll.ts';
import { type GetBlobFlags, getBlobCommand } from './get-blob.ts';
import { getManifestCommand } from './get-manifest.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { errorLine, pullCommand } from './pull.ts';
import { type RunFlags, runCommand } from './run.ts';
import { statusCommand } from './status.ts';

/** Runs one command line. Never rejects; what went wrong is on stderr. */
export async function runCli(args: readonly string[], io: CliIo): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const program = buildProgram(io, (ended) => {
    code = ended;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    // Commander has told the person already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    io.stderr.write(errorLine(error));
    const usage = (
      ['INVALID_CONFIG', 'INVALID_REFERENCE', 'INVALID_DIGEST', 'INVALID_ARGUMENT'] as const
    ).some((known) => isTidepoolError(error, known));
    return usage ? EXIT.usage : EXIT.failed;
  }
}

function buildProgram(io: CliIo, ended: (code: ExitCode) => void): Command {
  const program = new Command('tidepool-agent');
  program
    .description(
      'Brings container images to the nodes of a pool: once over the WAN, then from neighbour to neighbour.',
    )
    .version(VERSION, '-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .showSuggestionAfterError()
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage or settings.');
  addRun(program, io, ended);
  addEnroll(program, io, ended);
  addAsking(program, io, ended);
  addBundle(program, io, ended);
  addContainerd(program, io, ended);
  program
    .command('version')
    .description('print the version')
    .option('--json', 'as JSON')
    .action((flags: { json?: boolean }) => {
      const facts = {
        version: VERSION,
        node: process.version,
        platform: `${process.platform}/${process.arch}`,
      };
      io.stdout.write(flags.json === true ? `${JSON.stringify(facts)}\n` : `tidepool-agent ${VERSION}\n`);
    });
  return program;
}

const list = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

function addRun(program: Command, io: CliIo, ended: (code: ExitCode) => void): void {
  const run = program
    .command('run')
    .description('run the agent of this node until it is told to stop (SIGTERM, SIGINT)')
    .option('--config <file>', 'settings, YAML; flags go over it (default: $TIDEPOOL_CONFIG)')
    .option('--node <name>', "this node's name (default: the host's name)")
    .option('--pool <name>', 'the pool it shares with (default: default)')
    .option(
      '--pool-from-hub',
      'be in the pool that the hub says, --pool until it has said one (default: alone)',
    )
    .option('--address <ip>', 'where neighbours reach it (default: its only IPv4 address)')
    .option('--data <dir>', 'where pieces and the index are kept (default: /var/lib/tidepool)')
    .option(
      '--mirror <ip:port>',
      'where runtimes pull from (default: 127.0.0.1:618, which root or CAP_NET_BIND_SERVICE alone may listen on, so that nobody takes its place and collects accounts while it is down; with --insecure 127.0.0.1:6180)',
    )
    .option('--peer-port <port>', 'where neighbours ask (default: 6181)')
    .option('--ops <ip:port>', 'health, metrics and status (default: 127.0.0.1:6182)')
    .option('--hub <url>', 'a broker of the hub, mqtts://host:port; again for another one', list)
    .option(
      '--hub-ca <file>',
      'authority that a broker which is not the hub itself has its certificate of, PEM; its host name counts then',
    )
    .option('--hub-node <name>', 'node whose certificate such a broker shows (default: it shows the hub’s)')
    .option('--peers <ip:port,…>', 'neighbours known beforehand')
    .option(
      '--bootstrap <file>',
      'what the hub would say, where it cannot be reached: from `tidepool-hub pools bootstrap`',
    )
    .option('--registry <host=url>', 'where a registry is; with any of these, no other is asked', list)
    .option('--default-registry <host>', 'of pulls that name none (default: docker.io)')
    .option('--source-address <ip>', 'connect to registries and hub from this address')
    .option('--cri <socket>', "containerd's CRI socket, or none (default: /run/containerd/containerd.sock)")
    .option(
      '--containerd-content <dir>',
      "share what lies in containerd's content store: its path, auto or none (default: none)",
    )
    .option('--insecure', 'plain connections to neighbours and hub: for experiments')
    .option('--log-level <level>', `${LOG_LEVELS.join(', ')} (default: info)`);
  joining(run)
    .addHelpText(
      'after',
      `
A node needs a certificate, once: the hub gives it one for a join token (tidepool-hub token create). Until it has one its
mirror works alone. Later starts need no token; the certificate is renewed by itself.

Examples:
  tidepool-agent run --hub mqtts://hub.example:6183 --join tp1.…
  node-1$ tidepool-agent run --address 10.0.0.7 --peers 10.0.0.8:6181 --insecure
  node-2$ tidepool-agent run --address 10.0.0.8 --peers 10.0.0.7:6181 --insecure`,
    )
    .action(async (flags: RunFlags) => ended(await runCommand(io, flags)));
}

/** How a node gets its certificate. */
function joining(command: Command): Command {
  return command
    .option('--join <token>', 'what lets this node in, where it has no certificate yet')
    .option('--join-file <file>', 'the same, from a file')
    .option('--sa-token <file>', 'the same, a ServiceAccount token that the cluster projects')
    .option('--ca <file>', 'authority that the hub has to show before it gets the ServiceAccount token, PEM')
    .option('--enroll-url <url>', "the hub's API (default: https://<host of --hub>:6190)")
    .option('--replace', 'take the place of a node of this name that is enrolled already');
}

function addEnroll(program: Command, io: CliIo, ended: (code: ExitCode) => void): void {
  const enroll = program
    .command('enroll')
    .description("get this node's certificate from the hub now, also in place of the one it has")
    .option('--config <file>', "the agent's settings, YAML; flags go over it (default: $TIDEPOOL_CONFIG)")
    .option('--node <name>', "this node's name (default: the host's name)")
    .option('--data <dir>', 'where the agent keeps its data (default: /var/lib/tidepool)')
    .option('--hub <url>', 'a broker of the hub, mqtts://host:port', list)
    .option('--source-address <ip>', 'connect to the hub from this address')
    .option('--json', 'as JSON');
  joining(enroll)
    .addHelpText(
      'after',
      `
A running agent keeps the certificate that it began with: start it again afterwards.

Example:
  tidepool-agent enroll --hub mqtts://hub.example:6183 --join-file /etc/tidepool/token`,
    )
    .action(async (flags: EnrollFlags) => ended(await enrollCommand(io, flags)));
}

function addAsking(program: Command, io: CliIo, ended: (code: ExitCode) => void): void {
  const admin = (name: string, description: string): Command =>
    asking(name, description).option(
      '--data <dir>',
      'where the agent keeps its data and its socket, which its own user alone may use (default: by --config, else /var/lib/tidepool, else as the agent at --ops says)',
    );
  const asking = (name: string, description: string): Command =>
    program
      .command(name)
      .description(description)
      .option('--ops <ip:port>', 'where the agent answers (default: 127.0.0.1:6182)')
      .option('--config <file>', "the agent's settings, to find it by (default: $TIDEPOOL_CONFIG)");
  asking('status', 'show how the agent of this node is')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExample:\n  tidepool-agent status --json | jq .counters')
    .action(async (flags) => ended(await statusCommand(io, flags)));
  admin('pull <image>', "bring an image into this node's store, by way of the pool")
    .option('--platform <os/arch>', "instead of this node's own; again for more", list)
    .option('--user <user:password>', 'account at the registry')
    .option('--runtime', 'and from the store into the container runtime, where kubelet finds it')
    .option('--json', 'each step as one line of JSON')
    .addHelpText(
      'after',
      '\nExample:\n  tidepool-agent pull docker.io/library/nginx:1.29\n  tidepool-agent pull nginx@sha256:… --platform linux/arm64',
    )
    .action(async (image: string, flags) => ended(await pullCommand(io, image, flags)));
  admin('get-manifest <image>', 'show the manifest that a runtime would get here')
    .option('--user <user:password>', 'account at the registry')
    .option('--json', 'as JSON, with digest and type')
    .addOption(new Option('--raw', "the manifest's own bytes").conflicts('json'))
    .addHelpText('after', '\nExample:\n  tidepool-agent get-manifest --raw busybox:1.37 | sha256sum')
    .action(async (image: string, flags) => ended(await getManifestCommand(io, image, flags)));
  admin('get-blob <image> <digest>', 'bring one blob of an image to a file, as a runtime would get it')
    .requiredOption('-o, --output <file>', 'where to write it; it appears there whole or not at all')
    .option('--user <user:password>', 'account at the registry')
    .addHelpText('after', '\nExample:\n  tidepool-agent get-blob busybox:1.37 sha256:… -o layer.tar.gz')
    .action(async (image: string, digest: string, flags: GetBlobFlags) =>
      ended(await getBlobCommand(io, image, digest, flags)),
    );
}

function addContainerd(program: Command, io: CliIo, ended: (code: ExitCode) => void): void {
  const containerd = program.command('containerd').description('point containerd at the mirror, and back');
  containerd
    .command('configure')
    .description('write hosts.toml files; what was there stays as fallback and is backed up')
    .option('--registry <host[=url]>', 'a registry, as images name it; again for more', list)
    .option('--default', 'all registries without a directory of their own')
    .option('--existing', 'all registries that have a directory already')
    .option('--certs-dir <dir>', "containerd's config_path (default: /etc/containerd/certs.d)")
    .option(
      '--mirror <url>',
      'where the mirror listens (default: as the settings or the running agent say, else http://127.0.0.1:618)',
    )
    .option('--origin-fallback', 'containerd may go past the agent to the registry (default)')
    .option('--no-origin-fallback', 'what the agent cannot give fails: nothing escapes the WAN cap')
    .addOption(new Option('--no-fallback', 'the same, as it was called').hideHelp())
    .option('--insecure', 'for an agent that runs with --insecure: its default is http://127.0.0.1:6180')
    .option('--root <dir>', "where the host's files are mounted, for a container (default: /)")
    .option('--check', 'change nothing: tell what containerd would do now')
    .option(
      '--config <file>',
      "the agent's settings: mirror, originFallback, runtime (default: $TIDEPOOL_CONFIG)",
    )
    .option('--ops <ip:port>', 'where the agent answers (default: 127.0.0.1:6182)')
    .option('--data <dir>', 'where the agent keeps its data (default: /var/lib/tidepool)')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
What stood in a hosts.toml stays behind the mirror; private mirrors, authorities and skip_verify found there are told to
the agent too, which asks at the same places from its next start on.

With --origin-fallback containerd asks the registry itself when the agent is down or cannot get an image: pods start, but
those bytes are outside of the pool's WAN cap. With --no-origin-fallback such a pull fails until the agent has the image.

--check ends with 0 where containerd uses the mirror, 1 where it does not, 3 where that cannot be told.

Examples:
  tidepool-agent containerd configure --registry docker.io --registry registry.example:5000
  tidepool-agent containerd configure --default --existing --root /host
  tidepool-agent containerd configure --check`,
    )
    .action(async (flags) =>
      ended(flags.check === true ? await checkCommand(io, flags) : await configureCommand(io, flags)),
    );
  containerd
    .command('restore')
    .description('put back exactly what was there before')
    .option('--certs-dir <dir>', "containerd's config_path (default: /etc/containerd/certs.d)")
    .option('--all', "every directory that containerd's settings name, and those it takes without any")
    .option('--root <dir>', "where the host's files are mounted, for a container (default: /)")
    .option('--config <file>', "the agent's settings (default: $TIDEPOOL_CONFIG)")
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  tidepool-agent containerd restore\n  tidepool-agent containerd restore --all --root /host',
    )
    .action((flags) => ended(restoreCommand(io, flags)));
}
