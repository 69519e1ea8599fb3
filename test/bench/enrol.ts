/**
 * `npx tsx test/bench/enrol.ts [--json]`: a thousand agents ask one hub, a process of its own, for their certificates over
 * TLS, with keys that they have and with keys that they make first. Fails when one is refused, never for a missed target.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { HubClient as AdminClient } from '../../cloud/cli/hub-client.ts';
import { makeRequest } from '../../edge/identity/request.ts';
import { readCertificate, readRoots } from '../../shared/trust/certificate.ts';
import type { JoinTokenMade } from '../../shared/wire/api.ts';
import { cpuSeconds, memoryMib } from '../lab/proc.ts';
import { enrolAt } from '../support/hub-trust.ts';

const AGENTS = 1_000;
const AT_ONCE = 50;
const TARGET_S = 60;

interface Round {
  readonly keys: 'made before' | 'made on the way';
  readonly seconds: number;
  readonly perSecond: number;
  /** Of the hub, processor time for one certificate. */
  readonly hubMs: number;
  readonly hubMib: number;
}

const directory = mkdtempSync(join(tmpdir(), 'tidepool-enrol-'));
const hub = spawn(
  process.execPath,
  [
    ...process.execArgv,
    ...['cloud/main.ts', 'run', '--data', directory, '--no-pin-tags'],
    ...['--api', '127.0.0.1:0', '--mqtt', '127.0.0.1:0'],
  ],
  { stdio: ['ignore', 'inherit', 'pipe'] },
);
const ended = once(hub, 'exit');
try {
  const url = `https://${await apiOf(hub.stderr)}`;
  const trust = { roots: readRoots(readFileSync(join(directory, 'trust/ca.pem'), 'utf8')) };
  const admin = new AdminClient({
    url,
    trust,
    token: readFileSync(join(directory, 'admin-token'), 'utf8').trim(),
    signal: new AbortController().signal,
  });
  const { token } = await admin.call<JoinTokenMade>('POST', '/v1/tokens', {
    pool: 'bench',
    uses: 2 * AGENTS,
  });
  const made = await Promise.all(Array.from({ length: AGENTS }, (_, i) => makeRequest(`first-${i}`)));
  const rounds = [
    await round('made before', url, (i) => ({
      name: `first-${i}`,
      token,
      request: Promise.resolve(made[i]?.request ?? ''),
    })),
    await round('made on the way', url, (i) => ({
      name: `second-${i}`,
      token,
      request: makeRequest(`second-${i}`).then((pair) => pair.request),
    })),
  ];
  if (process.argv.includes('--json')) console.log(JSON.stringify(rounds));
  else for (const each of rounds) print(each);
} finally {
  hub.kill('SIGTERM');
  await ended;
  rmSync(directory, { recursive: true, force: true });
}

async function round(
  keys: Round['keys'],
  url: string,
  agent: (i: number) => { readonly name: string; readonly token: string; readonly request: Promise<string> },
): Promise<Round> {
  const { pid = 0 } = hub;
  const cpuBefore = cpuSeconds(pid);
  const startedAt = performance.now();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < AGENTS; i = next++) {
      const { name, token, request } = agent(i);
      const { certificate } = await enrolAt(url, { node: name, request: await request, token });
      const { subject } = readCertificate(certificate);
      if (subject.kind !== 'node' || subject.node !== name)
        throw new Error(`${name} got another's certificate`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    keys,
    seconds,
    perSecond: AGENTS / seconds,
    hubMs: ((cpuSeconds(pid) - cpuBefore) / AGENTS) * 1000,
    hubMib: memoryMib(pid).now,
  };
}

function print({ keys, seconds, perSecond, hubMs, hubMib }: Round): void {
  const verdict = seconds <= TARGET_S ? 'met' : 'MISSED';
  console.log(
    `${AGENTS} agents, keys ${keys}: ${seconds.toFixed(1)} s (target ${TARGET_S} s: ${verdict}), ${perSecond.toFixed(0)} certificates/s; hub ${hubMs.toFixed(1)} ms of processor each, ${hubMib.toFixed(0)} MiB`,
  );
}

/** Where the hub's API listens, as its log says. */
async function apiOf(log: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: log });
  for await (const line of lines) {
    const api = /"api":"([^"]+)"/.exec(line)?.[1];
    if (api === undefined) continue;
    // What it says later is not read, and must not fill the pipe.
    log.resume();
    return api;
  }
  throw new Error('the hub has ended before it was up');
}
