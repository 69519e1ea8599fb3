import { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import { checkPulls, type HostPull, pullOn } from './parts.ts';

/** One host after the other, 100 Mbit/s: the first pays the uplink, the others have neighbours. */
export async function rolling(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  const uplinkKbit = 100_000;
  const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit });
  const bound = await lab.bound(pool, uplinkKbit, image);
  const pulls: HostPull[] = [];
  const { wan } = await pool.countWan(async () => {
    for (const host of pool.hosts) pulls.push(await pullOn(host, image));
  });
  await checkPulls(findings, 'rolling', pulls, image);
  const seconds = pulls.map((pull) => pull.seconds);
  const total = seconds.reduce((sum, value) => sum + value, 0);
  const wanRatio = wan.down / bound.wanBytes;
  findings.add({ bound, wan, wanRatio, seconds, total, totalRatio: total / bound.seconds });
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.01, loose: 1.04 });
  findings.atMost('total time against the bound', total / bound.seconds, { strict: 1.95, loose: 6 });
  return findings;
}
