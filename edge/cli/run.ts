import type { AddressInfo } from 'node:net';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/log.ts';
import { createAgent } from '../components.ts';
import { formatHostPort } from '../config/addresses.ts';
import type { AgentFlags } from '../config/flags.ts';
import { loadSettings } from '../config/load-settings.ts';
import { VERSION } from '../version.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';

export interface RunFlags extends AgentFlags {
  readonly config?: string;
}

const PLAIN_REFUSED =
  'connections to neighbours and to the hub are not encrypted and not authenticated yet; where you trust the network between them, start the agent with --insecure (or insecure: true in the settings file)';

/** Runs the agent until it is told to stop. */
export async function runCommand(io: CliIo, flags: RunFlags): Promise<ExitCode> {
  const settings = loadSettings(flags, flags.config, io.machine);
  if (!settings.insecure) throw new TidepoolError('INVALID_CONFIG', PLAIN_REFUSED);
  const log = createLogger('tidepool-agent', settings.logLevel, {
    write: (line) => void io.stderr.write(line),
  });
  log.warn('--insecure: whoever is on this network can read what neighbours send and pose as one of them');
  const agent = createAgent(settings, { log, clock: io.clock });
  try {
    await agent.start();
  } catch (error) {
    log.fatal({ err: error }, 'the agent cannot start');
    io.stderr.write(`error: ${describeError(error)}\n`);
    return EXIT.failed;
  }
  const { node, pool, data } = settings;
  const { mirror, peers, ops } = agent.addresses;
  log.info(
    { node, pool, data, version: VERSION, mirror: shown(mirror), peers: shown(peers), ops: shown(ops) },
    'agent is up',
  );
  await aborted(io.signal);
  log.info('agent stops');
  await agent.stop();
  log.info('agent has stopped');
  return EXIT.ok;
}

function shown({ address, port }: AddressInfo): string {
  return formatHostPort({ host: address, port });
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
