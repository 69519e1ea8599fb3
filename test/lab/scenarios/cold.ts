import { Findings } from '../checks.ts';
import type { ContainerdRelease } from '../containerd.ts';
import type { SampleImage } from '../image.ts';
import { type Lab, tagOf } from '../lab.ts';
import type { PoolOfHosts } from '../pool.ts';
import { checkPulls, lastPull, lastWhole, pullOnAll } from './parts.ts';

const GB = 1e9;

interface ColdInit {
  readonly release: ContainerdRelease;
  readonly uplinkKbit: number;
  readonly image: SampleImage;
  readonly runs: number;
}

/** Every host pulls one image at the same moment, nobody has any of it: 100 Mbit/s, with every containerd there is. */
export async function cold(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  for (const [index, release] of lab.releases.entries()) {
    const runs = index === 0 ? lab.options.runs : 1;
    await coldRuns(lab, findings, { release, uplinkKbit: 100_000, image, runs });
  }
  return findings;
}

/** The same at 20 Mbit/s; the whole 200 MB only under `--strict`. */
export async function cold20(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image(lab.options.strict ? 'large' : 'medium');
  await coldRuns(lab, findings, { release: lab.newest(), uplinkKbit: 20_000, image, runs: 1 });
  return findings;
}

/** The same at 2 Mbit/s with a smaller image. */
export async function cold2(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('small');
  await coldRuns(lab, findings, { release: lab.newest(), uplinkKbit: 2_000, image, runs: 1 });
  return findings;
}

/** 256 kbit/s, where a second of waiting is a piece lost; and no time-out may make a pull start over. */
export async function thinUplink(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('tiny');
  await coldRuns(lab, findings, { release: lab.newest(), uplinkKbit: 256, image, runs: 1 });
  return findings;
}

async function coldRuns(lab: Lab, findings: Findings, init: ColdInit): Promise<void> {
  const { release, uplinkKbit, image } = init;
  const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit, release });
  const runs: Record<string, unknown>[] = [];
  for (let number = 1; number <= init.runs; number += 1) {
    if (number > 1) await pool.reset();
    const name = `containerd ${release.version}, ${uplinkKbit / 1000} Mbit/s${init.runs > 1 ? `, run ${number}` : ''}`;
    const figures = await coldOnce(lab, findings, pool, { ...init, name });
    lab.say(`   ${name}: ${JSON.stringify(figures)}`);
    runs.push(figures);
  }
  findings.add({ [`containerd ${release.version}`]: { image: image.bytes, uplinkKbit, runs } });
  await lab.closePools();
}

async function coldOnce(
  lab: Lab,
  findings: Findings,
  pool: PoolOfHosts,
  init: ColdInit & { name: string },
): Promise<Record<string, unknown>> {
  const { image, name, release } = init;
  const bound = await lab.bound(pool, init.uplinkKbit, image, true);
  const cpuBefore = pool.agentCpuSeconds();
  const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts, image));
  const cpuPerGb = (pool.agentCpuSeconds() - cpuBefore) / ((image.bytes * pool.hosts.length) / GB);
  const peakMib = pool.agentPeakMib();
  await checkPulls(findings, name, pulls, image);
  const wanRatio = wan.down / bound.wanBytes;
  const wholeRatio = lastWhole(pulls) / bound.seconds;
  // 1.6 unpacks only after all is fetched: what that alone takes here is not the pool's doing.
  const unpackSeconds = release.major < 2 ? await unpackAlone(pool, image) : 0;
  const pullRatio = (lastPull(pulls) - unpackSeconds) / bound.seconds;
  findings.atMost(`${name}: WAN bytes against one stream`, wanRatio, { strict: 1.02, loose: 1.06 });
  findings.atMost(`${name}: blobs whole against the bound`, wholeRatio, { strict: 1.03, loose: 5 });
  findings.atMost(`${name}: last pull against the bound`, pullRatio, { strict: 1.1, loose: 6 });
  // Below a few hundred megabytes the agents' first seconds outweigh what each byte costs.
  if (image.bytes > 100e6) {
    findings.atMost(`${name}: agents' processor seconds per GB`, cpuPerGb, {
      strict: lab.options.plain ? 3.5 : 4.5,
      loose: 50,
    });
  }
  return {
    bound,
    wan,
    wanRatio,
    wholeSeconds: lastWhole(pulls),
    wholeRatio,
    pullSeconds: lastPull(pulls),
    unpackSeconds,
    pullRatio,
    cpuPerGb,
    peakMib,
  };
}

/** Seconds that all hosts at once take to pull what they have fetched already. */
async function unpackAlone(pool: PoolOfHosts, image: SampleImage): Promise<number> {
  await Promise.all(pool.hosts.map((host) => host.containerd.reset()));
  await Promise.all(pool.hosts.map((host) => host.containerd.fetch(tagOf(image))));
  return lastPull(await pullOnAll(pool.hosts, image));
}
