import { Findings } from '../checks.ts';
import { digestReferenceOf, type Lab, tagOf } from '../lab.ts';
import { checkPulls, type HostPull, measureLan, pullOn } from './parts.ts';

/**
 * The uplink goes while one host holds an image: the others pull it by tag and by digest, one at a time, first with the
 * cable pulled, then with packets that vanish; and the container runs.
 */
export async function cloudCut(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit: 1_000_000 });
  await checkPulls(findings, 'before the cut', [await pullOn(pool.host(0), image)], image);
  const lan = await measureLan(pool, image.bytes);
  const pulls: HostPull[] = [];
  const rows: Record<string, unknown>[] = [];
  const { wan } = await pool.countWan(async () => {
    for (const [index, host] of pool.hosts.entries()) {
      if (index === 0) continue;
      const cut = index <= pool.hosts.length / 2 ? 'down' : 'black-hole';
      await pool.setUplink(cut);
      const reference = index % 2 === 1 ? tagOf(image) : digestReferenceOf(image);
      const pull = await pullOn(host, image, { reference, timeoutMs: 120_000 });
      pulls.push(pull);
      const lanShare = image.bytes / (pull.wholeSeconds ?? Number.POSITIVE_INFINITY) / lan;
      rows.push({
        host: host.name,
        cut,
        by: index % 2 === 1 ? 'tag' : 'digest',
        seconds: pull.seconds,
        lanShare,
      });
      findings.atLeast(
        `${host.name}, ${cut}, by ${index % 2 === 1 ? 'tag' : 'digest'}: share of the LAN's rate`,
        lanShare,
        {
          strict: 0.8,
          loose: 0.05,
        },
      );
    }
  });
  await checkPulls(findings, 'cloud cut', pulls, image);
  findings.add({ lanBytesPerSecond: lan, wan, pulls: rows });
  findings.atMost('WAN bytes, both ways', wan.down + wan.up, { strict: 0, loose: 0 });
  const last = pool.host(pool.hosts.length - 1);
  const byTag = (pool.hosts.length - 1) % 2 === 1;
  const reference = byTag ? tagOf(image) : digestReferenceOf(image);
  const ran = await last.containerd.runContainer(reference, ['/bin/busybox', 'echo', 'alive']);
  findings.isTrue('a container runs', ran.stdout.trim() === 'alive', ran.stdout || ran.stderr);
  return findings;
}
