/** Agents and hubs as processes of their own, from the bundles, without root. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { Daemon, mustRun, waitUntil } from '../lab/process.ts';
import type { Cleanup } from './cleanup.ts';

const START_MS = 60_000;
const ASK_MS = 30_000;

export interface AgentInit {
  readonly bundle: string;
  /** Holds its data and its log. */
  readonly directory: string;
  readonly node: string;
  readonly pool: string;
  /** All its servers listen there. */
  readonly address: string;
  readonly peerPort: number;
  /** `host:port` of neighbours. */
  readonly peers?: readonly string[];
  /** A join token; without it connections are plain. */
  readonly join?: string;
  readonly flags?: readonly string[];
}

export interface AgentProcess {
  readonly node: string;
  readonly pid: number;
  /** `http://host:port`, without a slash at the end. */
  readonly mirror: string;
  /** `host:port` for neighbours. */
  readonly peer: string;
  status(): Promise<AgentStatus>;
  stop(): Promise<void>;
}

/** Resolves when it serves. It is stopped by `cleanup` at the latest. */
export async function startAgent(cleanup: Cleanup, init: AgentInit): Promise<AgentProcess> {
  const { bundle, directory, node, pool, address, peerPort, peers = [], join: token, flags = [] } = init;
  const { daemon, facts } = await start(cleanup, {
    label: `agent ${node}`,
    logFile: join(directory, `${node}.log`),
    ready: 'agent is up',
    command: [
      process.execPath,
      bundle,
      'run',
      `--node=${node}`,
      `--pool=${pool}`,
      `--address=${address}`,
      `--data=${join(directory, node)}`,
      `--mirror=${address}:0`,
      `--peer-port=${peerPort}`,
      `--ops=${address}:0`,
      ...(peers.length === 0 ? [] : [`--peers=${peers.join(',')}`]),
      ...(token === undefined ? ['--insecure'] : [`--join=${token}`]),
      ...flags,
    ],
  });
  const ops = `http://${facts('ops')}`;
  return {
    node,
    pid: daemon.pid,
    mirror: `http://${facts('mirror')}`,
    peer: `${address}:${peerPort}`,
    async status() {
      const answer = await fetch(`${ops}/v1/status`, { signal: AbortSignal.timeout(ASK_MS) });
      if (!answer.ok) throw new Error(`${node} answered ${answer.status} when asked how it is`);
      return (await answer.json()) as AgentStatus;
    },
    stop: () => daemon.stop(),
  };
}

export interface HubProcess {
  readonly pid: number;
  /** `mqtts://host:port`; with plain connections `mqtt://…` */
  readonly broker: string;
  /** `https://host:port`; with plain connections `http://…` */
  readonly api: string;
  readonly data: string;
  stop(): Promise<void>;
}

/** A hub with its own broker on 127.0.0.1, working from a directory of documents. */
export async function startHub(
  cleanup: Cleanup,
  init: {
    bundle: string;
    directory: string;
    documents: string;
    insecure?: boolean;
    flags?: readonly string[];
  },
): Promise<HubProcess> {
  const data = join(init.directory, 'hub');
  const { insecure = false } = init;
  const { daemon, facts } = await start(cleanup, {
    label: 'hub',
    logFile: join(init.directory, 'hub.log'),
    ready: 'hub is up',
    command: [
      process.execPath,
      init.bundle,
      'run',
      `--documents=${init.documents}`,
      '--broker=embedded',
      '--mqtt=127.0.0.1:0',
      '--api=127.0.0.1:0',
      `--data=${data}`,
      ...(insecure ? ['--insecure'] : []),
      ...(init.flags ?? []),
    ],
  });
  return {
    pid: daemon.pid,
    broker: `${insecure ? 'mqtt' : 'mqtts'}://${facts('mqtt')}`,
    api: `${insecure ? 'http' : 'https'}://${facts('api')}`,
    data,
    stop: () => daemon.stop(),
  };
}

/** What a person copies to the nodes of a pool, as the hub's own command prints it. */
export async function makeJoinToken(
  hub: Pick<HubProcess, 'api' | 'data'>,
  init: { bundle: string; pool: string; uses: number },
): Promise<string> {
  const { stdout } = await mustRun([
    process.execPath,
    init.bundle,
    'token',
    'create',
    `--pool=${init.pool}`,
    `--uses=${init.uses}`,
    '--json',
    `--hub=${hub.api}`,
    `--data=${hub.data}`,
  ]);
  const made: unknown = JSON.parse(stdout);
  if (typeof made === 'object' && made !== null && 'token' in made) return String(made.token);
  throw new Error('the hub made no token');
}

/** Starts a process that logs JSON lines, and waits for the one that says where it listens. */
async function start(
  cleanup: Cleanup,
  init: { label: string; logFile: string; ready: string; command: readonly string[] },
): Promise<{ daemon: Daemon; facts: (key: string) => string }> {
  const { label, logFile, ready, command } = init;
  const daemon = new Daemon({ label, command, logFile });
  cleanup.addProcess(label, () => daemon.stop());
  let line: Readonly<Record<string, unknown>> | undefined;
  await waitUntil(
    () => {
      line = findLine(logFile, ready);
      if (line === undefined && !daemon.running) throw new Error(`${label} ended at once: ${daemon.tail()}`);
      return line !== undefined;
    },
    { timeoutMs: START_MS, describe: () => `${label} does not come up: ${daemon.tail()}` },
  );
  return {
    daemon,
    facts(key) {
      const value = line?.[key];
      if (typeof value !== 'string') throw new Error(`${label} says "${ready}" without ${key}`);
      return value;
    },
  };
}

function findLine(logFile: string, message: string): Readonly<Record<string, unknown>> | undefined {
  for (const line of readFileSync(logFile, 'utf8').split('\n')) {
    if (!line.includes(`"${message}"`) || !line.endsWith('}')) continue;
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return { ...value };
  }
  return undefined;
}
