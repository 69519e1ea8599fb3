/** Agents as people start them, with a join token and nothing else, and the hub that lets them in. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { CliCapture } from '../support/cli-capture.ts';
import { EnrolmentHub } from '../support/enrolment-hub.ts';
import { eventually } from '../support/hub-fixture.ts';
import { startSecureHub } from '../support/hub-trust.ts';
import { TestAuthority } from '../support/trust.ts';

const PEER_PORT = 16_183;
const TEST_MS = 120_000;

let directory: string;
let network: string;
let agents: { readonly agent: CliCapture; readonly ended: Promise<{ readonly code: number }> }[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'secure-'));
  network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  agents = [];
});
afterEach(async () => {
  for (const { agent } of agents) agent.stop();
  await Promise.all(agents.map(({ ended }) => ended));
  rmSync(directory, { recursive: true, force: true });
});

function start(n: number, more: readonly string[]): CliCapture {
  const agent = new CliCapture();
  const address = `${network}.${n}`;
  const ended = agent.run(
    'run',
    `--node=n${n}`,
    `--address=${address}`,
    `--data=${join(directory, `n${n}`)}`,
    `--mirror=${address}:0`,
    `--peer-port=${PEER_PORT}`,
    `--ops=${address}:0`,
    '--cri=none',
    ...more,
  );
  agents.push({ agent, ended });
  return agent;
}

/** Of the agent's last start. */
function up(agent: CliCapture): { readonly pool: string; readonly ops: string; readonly mirror: string }[] {
  return agent.stderr
    .split('\n')
    .filter((line) => line.includes('"agent is up"'))
    .map((line) => JSON.parse(line));
}

async function statusOf(agent: CliCapture): Promise<AgentStatus | undefined> {
  const ops = up(agent).at(-1)?.ops;
  try {
    return ops === undefined
      ? undefined
      : ((await (await fetch(`http://${ops}/v1/status`)).json()) as AgentStatus);
  } catch {
    // It is on its way to another pool.
    return undefined;
  }
}

describe('agents with a join token', () => {
  it(
    'are let in, meet each other by what the hub says, and follow to another pool',
    async () => {
      const hub = await startSecureHub();
      try {
        const flags = [
          `--hub=mqtts://${hub.fixture.hub.mqtt}`,
          `--enroll-url=${hub.url}`,
          `--join=${await hub.token('store-1', { uses: 2 })}`,
        ];
        const [one, two] = [start(1, flags), start(2, flags)];
        for (const agent of [one, two]) {
          const status = await eventually(
            () => statusOf(agent),
            (found) => found?.members.some(({ live }) => live) === true && found.hub?.connected === true,
            30_000,
          );
          expect(status).toMatchObject({ pool: 'store-1', identity: { state: 'good', pool: 'store-1' } });
          expect(agent.stderr).not.toContain('--insecure');
          // Let in before it began: it began once.
          expect(up(agent)).toHaveLength(1);
        }
        await hub.admin.call('POST', '/v1/nodes/n2/move', { pool: 'store-2' });
        const moved = await eventually(
          () => statusOf(two),
          (found) => found?.pool === 'store-2' && found.hub?.connected === true,
          30_000,
        );
        expect(moved).toMatchObject({ identity: { state: 'good', pool: 'store-2' } });
      } finally {
        for (const { agent } of agents) agent.stop();
        await Promise.all(agents.map(({ ended }) => ended));
        await hub.close();
      }
    },
    TEST_MS,
  );

  it(
    'serve what they can alone while the hub is away, and begin anew when it has let them in',
    async () => {
      const hub = new EnrolmentHub(await TestAuthority.make());
      await hub.start();
      await hub.stop();
      const agent = start(1, ['--hub=mqtts://127.0.0.1:1', `--enroll-url=${hub.url}`, `--join=${hub.token}`]);
      await agent.shows('"agent is up"');
      const alone = await statusOf(agent);
      expect(alone).toMatchObject({ identity: { state: 'waiting' }, hub: null });
      const mirror = await fetch(`http://${up(agent)[0]?.mirror}/v2/`);
      expect(mirror.status).toBe(200);
      await hub.start();
      try {
        await eventually(
          () => statusOf(agent),
          (found) => found?.pool === 'shop-1',
          30_000,
        );
        expect(await statusOf(agent)).toMatchObject({
          identity: { state: 'good' },
          hub: { connected: false },
        });
      } finally {
        await hub.stop();
      }
    },
    TEST_MS,
  );

  it(
    'end with a clear word where the token is refused',
    async () => {
      const hub = new EnrolmentHub(await TestAuthority.make());
      await hub.start();
      try {
        hub.refuse = 'TOKEN_REFUSED';
        const agent = start(1, [
          '--hub=mqtts://127.0.0.1:1',
          `--enroll-url=${hub.url}`,
          `--join=${hub.token}`,
        ]);
        expect((await agents[0]?.ended)?.code).toBe(1);
        expect(agent.stderr).toMatch(/error: the hub at https:.*refuses: .*\(TOKEN_REFUSED\)/);
        expect(agent.stderr).not.toContain(hub.token);
      } finally {
        await hub.stop();
      }
    },
    TEST_MS,
  );
});
