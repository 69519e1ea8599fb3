import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describeError, type TidepoolError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import { createLogger, type Logger } from '../../shared/log.ts';
import { createAgent } from '../components.ts';
import { formatHostPort } from '../config/addresses.ts';
import type { AgentFlags } from '../config/flags.ts';
import { loadSettings, POOL_FILE } from '../config/load-settings.ts';
import { isFinal } from '../identity/certificate-keeper.ts';
import { FIRST_ENROLMENT_MS } from '../identity/constants.ts';
import { openIdentity, requireWay } from '../identity/open-identity.ts';
import { writeAtomically } from '../runtime/containerd/atomic-file.ts';
import type { AgentSettings } from '../settings.ts';
import { VERSION } from '../version.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';

export interface RunFlags extends AgentFlags {
  readonly config?: string;
}

/** Runs the agent until it is told to stop. */
export async function runCommand(io: CliIo, flags: RunFlags): Promise<ExitCode> {
  const settings = loadSettings(flags, flags.config, io.machine);
  const log = createLogger('tidepool-agent', settings.logLevel, {
    write: (line) => void io.stderr.write(line),
  });
  if (settings.insecure) {
    log.warn('--insecure: whoever is on this network can read what neighbours send and pose as one of them');
  } else await enrolFirst(io, settings, log);
  let { pool } = settings;
  for (;;) {
    // Everything in an agent belongs to one pool, so one that moves is made anew; pieces and index stay.
    const moved = new AbortController();
    let next = pool;
    let refused: TidepoolError | undefined;
    let damaged: TidepoolError | undefined;
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
        onIdentity: (certified) => {
          next = certified;
          moved.abort();
        },
        onRefused: (error) => {
          refused = error;
          moved.abort();
        },
        onDamaged: (error) => {
          damaged = error;
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
    pool = agent.pool;
    const { mirror, peers, ops } = agent.addresses;
    log.info(
      { node, pool, data, version: VERSION, mirror: shown(mirror), peers: shown(peers), ops: shown(ops) },
      'agent is up',
    );
    await aborted(AbortSignal.any([io.signal, moved.signal]));
    if (io.signal.aborted || refused !== undefined) log.info('agent stops');
    else if (damaged !== undefined)
      log.error({ why: damaged.message }, 'the index is damaged; the agent begins anew, with another one');
    else if (agent.enrolled === false)
      log.info({ node, pool: next }, 'this node is enrolled; the agent begins anew');
    else {
      log.info({ node, pool, next }, 'the hub says that this node is in another pool; it moves');
      if (settings.insecure) keepPool(data, next, log);
    }
    try {
      await agent.stop();
    } catch (error) {
      if (damaged === undefined) throw error;
      log.warn(
        { why: describeError(error) },
        'the agent could not write all that it had to before it began anew',
      );
    }
    if (refused !== undefined) throw refused;
    if (io.signal.aborted) {
      log.info('agent has stopped');
      return EXIT.ok;
    }
    pool = next;
  }
}

/**
 * A node that has no certificate is given a moment to get one, so that it begins as what it is. A hub out of reach is
 * asked again by the running agent, whose mirror works alone until then.
 * @throws TidepoolError TOKEN_REFUSED, CONFLICT and whatever asking again does not change
 */
async function enrolFirst(io: CliIo, settings: AgentSettings, log: Logger): Promise<void> {
  const identity = openIdentity(settings, { clock: io.clock, log });
  requireWay(identity, settings);
  if (identity.enrolled) return;
  const late = new AbortController();
  const cancel = io.clock.after(FIRST_ENROLMENT_MS, () => late.abort());
  try {
    await identity.enrol(AbortSignal.any([io.signal, late.signal]));
    const { keyId, notAfter } = identity.status();
    log.info({ node: settings.node, pool: identity.pool, keyId, notAfter }, 'this node is enrolled');
  } catch (error) {
    if (isFinal(error, settings.trust.credential?.kind ?? 'token')) throw error;
    if (!io.signal.aborted) log.warn({ reason: describeError(error) }, 'not enrolled at the first attempt');
  } finally {
    cancel();
    await identity.stop();
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
