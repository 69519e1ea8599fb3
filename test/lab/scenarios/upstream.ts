import { join } from 'node:path';
import { AgentProcess, PEER_PORT } from '../agent.ts';
import { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import { ORIGIN_URL } from '../origin.ts';
import { CLOUD_ADDRESS } from '../topology.ts';
import { settingsFlag, statusesOf, statusIn, untilJoined, withDirectory } from './agent-parts.ts';
import { checkPulls, lastPull, pullOnAll } from './parts.ts';

const UPLINK_KBIT = 100_000;
const HOSTS = 3;

/** A seed in the cloud that the pool asks before the registry: one copy from it, none from there; without it, from there. */
export async function upstream(lab: Lab): Promise<Findings> {
  return await withDirectory(async (directory) => {
    const findings = new Findings({ strict: lab.options.strict });
    const image = await lab.image('medium');
    const seed = new AgentProcess({
      bundle: lab.options.bundle,
      netns: lab.topology.cloud,
      node: 'seed',
      pool: 'cloud',
      address: CLOUD_ADDRESS,
      members: [],
      directory: join(directory, 'seed'),
      origin: ORIGIN_URL,
      extraFlags: [],
      trust: [],
    });
    const yaml = `tuning: {swarm: {upstream: ["${CLOUD_ADDRESS}:${PEER_PORT}"]}}\n`;
    await seed.start();
    try {
      const pool = await lab.pool({
        hosts: HOSTS,
        uplinkKbit: UPLINK_KBIT,
        // Which pools may ask a seed is a hub's word, and there is none here.
        plain: true,
        extraFlags: [settingsFlag(directory, yaml)],
      });
      await untilJoined(pool);
      const bound = await lab.bound(pool, UPLINK_KBIT, image);
      const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts, image));
      await checkPulls(findings, 'with a seed', pulls, image);
      const { counters } = await statusIn(lab.topology.cloud);
      const wanRatio = wan.down / bound.wanBytes;
      findings.add({ bound, wan, wanRatio, timeRatio: lastPull(pulls) / bound.seconds, seed: counters });
      findings.atLeast('share of the image that the seed gave', counters.servedPeerBytes / image.bytes, {
        strict: 1,
        loose: 1,
      });
      findings.atMost('copies that the seed took from the registry', counters.wanBytes / image.bytes, {
        strict: 1.02,
        loose: 1.05,
      });
      findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.05, loose: 1.1 });
      findings.atMost('last pull against the bound', lastPull(pulls) / bound.seconds, {
        strict: 1.4,
        loose: 6,
      });

      await seed.kill();
      const other = await lab.image('small');
      const { result: without, wan: wanWithout } = await pool.countWan(() => pullOnAll(pool.hosts, other));
      await checkPulls(findings, 'without the seed, from the registry', without, other);
      findings.add({ without: { wan: wanWithout, copies: wanWithout.down / other.bytes } });
      findings.atMost('without the seed: copies over the uplink', wanWithout.down / other.bytes, {
        strict: 1.1,
        loose: 1.25,
      });
      const members = (await statusesOf(pool)).flatMap((status) => status.members.map(({ node }) => node));
      findings.none(
        'the seed is no member',
        members.filter((node) => node === 'seed'),
      );
    } finally {
      await seed.stop();
    }
    return findings;
  });
}
