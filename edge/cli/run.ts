import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import { createLogger, type Logger } from '../../shared/log.ts';
import { createAgent } from '../components.ts';
import { formatHostPort } from '../config/addresses.ts';
import type { AgentFlags } from '../config/flags.ts';
import { loadSettings, POOL_FILE } from '../config/load-settings.ts';
import { writeAtomically } from '../runtime/containerd/atomic-file.ts';
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
  let { pool } = settings;
  for (;;) {
    // Everything in an agent belongs to one pool, so one that moves is made anew; pieces and index stay.
    const moved = new AbortController();
    let next = pool;
    const agent = createAgent(
      { ...settings, pool },
      {
        log,
        clock: io.clock,
        onPool: (said) => {
          if (!settings.poolFromHub || said === pool) return;
          next = said;
          moved.abort();
        },
      },
    );
    try {
      await agent.start();
    } catch (error) {
      log.fatal({ err: error }, 'the agent cannot start');
      io.stderr.write(`error: ${describeError(error)}\n`);
      return EXIT.failed;
    }
    const { node, data } = settings;
    const { mirror, peers, ops } = agent.addresses;
    log.info(
      { node, pool, data, version: VERSION, mirror: shown(mirror), peers: shown(peers), ops: shown(ops) },
      'agent is up',
    );
    await aborted(AbortSignal.any([io.signal, moved.signal]));
    if (!io.signal.aborted) {
      log.info({ node, pool, next }, 'the hub says that this node is in another pool; it moves');
      keepPool(data, next, log);
    } else log.info('agent stops');
    await agent.stop();
    if (io.signal.aborted) {
      log.info('agent has stopped');
      return EXIT.ok;
    }
    pool = next;
  }
}

/** For the next start, which may come without the hub. */
function keepPool(data: string, pool: PoolName, log: Logger): void {
  try {
    writeAtomically(join(data, POOL_FILE), Buffer.from(`${pool}\n`));
  } catch (error) {
    log.error({ err: error, pool }, 'the pool could not be kept; the next start begins where this one did');
  }
}

function shown({ address, port }: AddressInfo): string {
  return formatHostPort({ host: address, port });
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
