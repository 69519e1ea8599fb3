import { Findings } from '../checks.ts';
import { type Lab, tagOf } from '../lab.ts';
import { wrongBlobs } from '../pool.ts';

/** Plain containerds at once: every host fetches its own copy. Proves that the lab counts what it should. */
export async function plain(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('small');
  for (const release of lab.releases) {
    const uplinkKbit = 100_000;
    const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit, release, upstream: 'origin' });
    const bound = await lab.bound(pool, uplinkKbit, image);
    const started = performance.now();
    const { result, wan } = await pool.countWan(() =>
      Promise.all(pool.hosts.map((host) => host.containerd.pull(tagOf(image)))),
    );
    const seconds = (performance.now() - started) / 1000;
    const ratio = wan.down / bound.wanBytes;
    const key = `containerd ${release.version}`;
    findings.add({ [key]: { seconds, bound, wanRatio: ratio, timeRatio: seconds / bound.seconds } });
    findings.none(
      `${key}: every pull succeeds`,
      result.filter((pull) => pull.code !== 0).map((pull) => pull.stderr.trim()),
    );
    findings.none(
      `${key}: every digest right`,
      (await Promise.all(pool.hosts.map((h) => wrongBlobs(h, image)))).flat(),
    );
    const n = lab.options.hosts;
    findings.atLeast(`${key}: WAN copies`, ratio, { strict: n * 0.98, loose: n * 0.98 });
    findings.atMost(`${key}: WAN copies`, ratio, { strict: n * 1.1, loose: n * 1.1 });
    const ran = await pool.host(0).containerd.runContainer(tagOf(image), ['/bin/busybox', 'echo', 'alive']);
    findings.isTrue(`${key}: the container runs`, ran.stdout.trim() === 'alive', ran.stdout || ran.stderr);
    await lab.closePools();
  }
  return findings;
}
