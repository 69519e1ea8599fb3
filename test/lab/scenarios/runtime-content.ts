import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentStatus } from '../../../edge/ops/api.ts';
import { OPS_PORT } from '../agent.ts';
import { Findings } from '../checks.ts';
import type { ContainerdRelease } from '../containerd.ts';
import type { SampleImage } from '../image.ts';
import { type Lab, tagOf } from '../lab.ts';
import { ORIGIN_URL, REGISTRY_NAME } from '../origin.ts';
import type { Host } from '../pool.ts';
import { wrongBlobs } from '../pool.ts';
import { inNetns, mustRun, run } from '../process.ts';
import { checkPulls, pullOn } from './parts.ts';

/**
 * An image that one host's containerd has got past the mirror, as on a node that had it before there was a Tidepool. The
 * uplink goes; the next host pulls it by tag from the first one's containerd, and neither keeps it twice. Then the first
 * containerd gives it up, and a third host has it from the second.
 */
export async function runtimeContent(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  for (const release of lab.releases) await withRelease(lab, findings, release, image);
  return findings;
}

async function withRelease(
  lab: Lab,
  findings: Findings,
  release: ContainerdRelease,
  image: SampleImage,
): Promise<void> {
  const of = `containerd ${release.version}`;
  const pool = await lab.pool({
    hosts: 3,
    uplinkKbit: 1_000_000,
    release,
    cri: true,
    extraFlags: ['--containerd-content=auto'],
  });
  await Promise.all(pool.hosts.map(putContentInPlace));
  const [first, second, third] = [pool.host(0), pool.host(1), pool.host(2)];
  const loaded = await pullPast(first, tagOf(image));
  findings.isTrue(`${of}: a pull past the mirror`, loaded.code === 0, loaded.stderr);
  const knownAfter = await waitFor(first, 60, ({ content }) => {
    return content !== undefined && content.sharedImages > 0 && content.checked === content.blobs;
  });
  findings.atMost(`${of}: seconds until its blobs are known`, knownAfter, { strict: 20, loose: 60 });
  if (!Number.isFinite(knownAfter)) {
    const { content } = await statusOf(first);
    throw new Error(`the agent does not know what lies there: ${JSON.stringify(content)} ${loaded.stderr}`);
  }

  await pool.setUplink('down');
  const { result: pulled, wan } = await pool.countWan(() => pullOn(second, image, { timeoutMs: 120_000 }));
  await checkPulls(findings, `${of}: from a neighbour's containerd`, [pulled], image);
  findings.atMost(`${of}: WAN bytes, both ways`, wan.down + wan.up, { strict: 0, loose: 0 });
  findings.none(`${of}: what lies there is right still`, await wrongBlobs(first, image));
  const firstDisk = await diskOf(first);
  findings.atMost(`${of}: disk of who had it, against the image`, firstDisk / image.bytes, limits);
  const releasedAfter = await waitFor(second, 120, ({ counters }) => counters.storedBytes === 0);
  const secondDisk = await diskOf(second);
  findings.atMost(`${of}: disk of who pulled it, against the image`, secondDisk / image.bytes, limits);

  const served = (await statusOf(first)).counters.servedPeerBytes;
  const removed = await ctr(first, 'images', 'rm', '--sync', tagOf(image));
  findings.isTrue(`${of}: containerd gives it up`, removed.code === 0, removed.stderr);
  const forgottenAfter = await waitFor(first, 30, ({ content }) => content?.blobs === 0);
  findings.atMost(`${of}: seconds until that is known`, forgottenAfter, { strict: 5, loose: 10 });
  const last = await pool.countWan(() => pullOn(third, image, { timeoutMs: 120_000 }));
  await checkPulls(findings, `${of}: from the one that has it still`, [last.result], image);
  findings.atMost(`${of}: WAN bytes then, both ways`, last.wan.down + last.wan.up, { strict: 0, loose: 0 });
  const servedSince = (await statusOf(first)).counters.servedPeerBytes - served;
  findings.atMost(`${of}: bytes from who gave it up`, servedSince, { strict: 0, loose: 0 });
  findings.add({
    [of]: {
      knownAfter,
      pullSeconds: pulled.seconds,
      firstDisk: firstDisk / image.bytes,
      secondDisk: secondDisk / image.bytes,
      releasedAfter,
      forgottenAfter,
      agentPeakMib: pool.agentPeakMib(),
      agentCpuSeconds: pool.agentCpuSeconds(),
    },
  });
  await lab.closePools();
}

const limits = { strict: 1.1, loose: 1.1 };

/** Where agents look for it on a host, which each of these has a root directory of its own for. */
async function putContentInPlace(host: Host): Promise<void> {
  mkdirSync(join(host.containerd.hostRoot, 'var/lib'), { recursive: true });
  const root = join(host.containerd.blobPath('sha256:'), '../../..');
  symlinkSync(root, join(host.containerd.hostRoot, 'var/lib/containerd'));
  await host.agent?.stop();
  await host.agent?.start();
}

async function pullPast(host: Host, reference: string) {
  const directory = join(host.containerd.hostRoot, 'past');
  mkdirSync(join(directory, REGISTRY_NAME), { recursive: true });
  const toml = `server = "${ORIGIN_URL}"\n\n[host."${ORIGIN_URL}"]\n  capabilities = ["pull", "resolve"]\n`;
  writeFileSync(join(directory, REGISTRY_NAME, 'hosts.toml'), toml);
  return await ctr(host, 'images', 'pull', '--hosts-dir', directory, reference);
}

async function ctr(host: Host, ...args: string[]) {
  const command = [
    join(host.containerd.release.directory, 'ctr'),
    '--address',
    host.containerd.socket,
    ...args,
  ];
  return await run(inNetns(host.netns, command), { timeoutMs: 120_000 });
}

/** Bytes on the disk in the agent's directory and in containerd's content store. */
async function diskOf(host: Host): Promise<number> {
  const content = join(host.containerd.blobPath('sha256:'), '../..');
  // A containerd that has got nothing yet has no such directory.
  const there = [host.agent?.data ?? '', content].filter((path) => existsSync(path));
  const { stdout } = await mustRun(['du', '-sk', ...there]);
  return stdout
    .trim()
    .split('\n')
    .reduce((sum, line) => sum + Number.parseInt(line, 10) * 1024, 0);
}

/** Seconds until it holds, or infinity when it does not within so many. */
async function waitFor(
  host: Host,
  seconds: number,
  holds: (status: AgentStatus) => boolean,
): Promise<number> {
  const started = performance.now();
  for (;;) {
    const took = (performance.now() - started) / 1000;
    if (holds(await statusOf(host))) return took;
    if (took > seconds) return Number.POSITIVE_INFINITY;
    await delay(100);
  }
}

async function statusOf(host: Host): Promise<AgentStatus> {
  const { stdout } = await mustRun(
    inNetns(host.netns, ['curl', '-sS', '-m', '10', `http://127.0.0.1:${OPS_PORT}/v1/status`]),
  );
  return JSON.parse(stdout) as AgentStatus;
}
