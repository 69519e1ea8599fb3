/** What scenarios about an agent's settings share: settings files, status, and agents beside the pool's own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentStatus } from '../../../edge/ops/api.ts';
import { OPS_PORT } from '../agent.ts';
import type { PoolOfHosts } from '../pool.ts';
import { inNetns, mustRun, waitUntil } from '../process.ts';

const START_MS = 60_000;

/** Runs `work` with a directory of its own, which is gone afterwards. */
export async function withDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'tidepool-lab-settings-'));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Writes a settings file; the answer is the agent's flag for it. */
export function settingsFlag(directory: string, yaml: string): string {
  const file = join(directory, 'agent.yaml');
  writeFileSync(file, yaml);
  return `--config=${file}`;
}

/** What the agent in a namespace says of itself. */
export async function statusIn(netns: string): Promise<AgentStatus> {
  const url = `http://127.0.0.1:${OPS_PORT}/v1/status`;
  const { stdout } = await mustRun(inNetns(netns, ['curl', '--silent', '--fail', '--max-time', '5', url]));
  return JSON.parse(stdout) as AgentStatus;
}

export async function statusesOf(pool: PoolOfHosts): Promise<AgentStatus[]> {
  return await Promise.all(pool.hosts.map((host) => statusIn(host.netns)));
}

/** Waits until each agent knows all the others, and what else `ready` asks for. */
export async function untilJoined(
  pool: PoolOfHosts,
  ready: (status: AgentStatus) => boolean = () => true,
): Promise<void> {
  const others = pool.hosts.length - 1;
  await waitUntil(
    async () =>
      (await statusesOf(pool)).every(
        (status) => status.members.filter(({ live }) => live).length >= others && ready(status),
      ),
    { timeoutMs: START_MS, everyMs: 200, describe: () => 'the agents do not find each other' },
  );
}
