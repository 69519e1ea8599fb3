import { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import { untilShare } from '../pool.ts';
import { checkPulls, failures, type HostPull, lastLine, lastPull, pullOn, pullOnAll } from './parts.ts';

const UPLINK_KBIT = 100_000;
const KILL_AT = 0.4;
const RETRIES = 3;

/** kill -9 of one agent in the middle of a cold pull: its own pull fails, all others end right. */
export async function ownerKilled(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit: UPLINK_KBIT });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const victim = pool.host(2 % pool.hosts.length);
  const ended = new AbortController();
  const { result: pulls, wan } = await pool.countWan(async () => {
    const killing = untilShare(victim, image, KILL_AT, ended.signal).then(() => victim.agent?.kill());
    const all = await pullOnAll(pool.hosts, image);
    ended.abort();
    await killing;
    return all;
  });
  const others = pulls.filter((pull) => pull.host !== victim);
  const own = pulls.find((pull) => pull.host === victim);
  await checkPulls(findings, 'all others', others, image);
  findings.isTrue('the pull of the killed agent fails', own !== undefined && own.result.code !== 0);
  const wanRatio = wan.down / bound.wanBytes;
  const timeRatio = lastPull(others) / bound.seconds;
  findings.add({ bound, wan, wanRatio, timeRatio, victim: lastLine(own?.result.stderr ?? '') });
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.06, loose: 1.15 });
  findings.atMost('last pull of the others against the bound', timeRatio, { strict: 1.25, loose: 4 });
  return findings;
}

/** kill -9 and restart in the middle of a pull, alone and with neighbours: what was durable is not fetched again. */
export async function restarted(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  for (const hosts of [1, 3]) {
    const name = hosts === 1 ? 'alone' : 'with neighbours';
    const image = await lab.image('large');
    const pool = await lab.pool({ hosts, uplinkKbit: UPLINK_KBIT });
    const bound = await lab.bound(pool, UPLINK_KBIT, image);
    const victim = pool.host(0);
    const ended = new AbortController();
    const { result, wan } = await pool.countWan(async () => {
      const restarting = untilShare(victim, image, KILL_AT, ended.signal).then(async () => {
        await victim.agent?.kill();
        await victim.agent?.start();
      });
      const first = await pullOnAll(pool.hosts, image);
      ended.abort();
      await restarting;
      const again: HostPull[] = [];
      let own = first.find((pull) => pull.host === victim);
      while (own !== undefined && own.result.code !== 0 && again.length < RETRIES) {
        own = await pullOn(victim, image);
        again.push(own);
      }
      return { first, again, own };
    });
    const others = result.first.filter((pull) => pull.host !== victim);
    const finals = result.own === undefined ? others : [...others, result.own];
    await checkPulls(findings, name, finals, image);
    const wanRatio = wan.down / bound.wanBytes;
    findings.add({
      [name]: { bound, wan, wanRatio, retries: result.again.length, failed: failures(result.first) },
    });
    // A second of the uplink and the window in flight may be lost: 6 % of this image each.
    findings.atMost(`${name}: WAN bytes against one stream`, wanRatio, { strict: 1.15, loose: 1.25 });
    await lab.closePools();
  }
  return findings;
}
