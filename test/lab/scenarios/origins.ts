import { existsSync } from 'node:fs';
import { Findings } from '../checks.ts';
import { type Lab, tagOf } from '../lab.ts';
import { CLOUD_ADDRESS } from '../topology.ts';
import { checkPulls, lastLine, lastPull, pullOn, pullOnAll } from './parts.ts';

const UPLINK_KBIT = 100_000;
const HOSTS = 4;
const USER = 'lab:s3cret';

/** An origin that answers every request from the first byte: one owner reads from start to end. */
export async function noRange(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('medium');
  const port = 5001;
  await lab.origin.startProxy({
    netns: lab.topology.cloud,
    address: CLOUD_ADDRESS,
    port,
    faults: ['--no-range'],
  });
  const pool = await lab.pool({
    hosts: HOSTS,
    uplinkKbit: UPLINK_KBIT,
    originOf: () => `http://${CLOUD_ADDRESS}:${port}`,
  });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts, image));
  await checkPulls(findings, 'without Range', pulls, image);
  findings.add({
    bound,
    wan,
    wanRatio: wan.down / bound.wanBytes,
    timeRatio: lastPull(pulls) / bound.seconds,
  });
  findings.atMost('WAN bytes against one stream', wan.down / bound.wanBytes, { strict: 1.05, loose: 1.1 });
  findings.atMost('last pull against the bound', lastPull(pulls) / bound.seconds, {
    strict: 1.3,
    loose: 4,
  });
  return findings;
}

/** A registry that asks for a token, with every containerd: with the secret, without it, with a wrong one, offline. */
export async function bearer(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('small');
  const port = 5002;
  await lab.origin.startProxy({
    netns: lab.topology.cloud,
    address: CLOUD_ADDRESS,
    port,
    faults: [`--bearer=${USER}`],
  });
  for (const release of lab.releases) {
    const name = `containerd ${release.version}`;
    const pool = await lab.pool({
      hosts: HOSTS,
      uplinkKbit: UPLINK_KBIT,
      release,
      originOf: () => `http://${CLOUD_ADDRESS}:${port}`,
    });
    const bound = await lab.bound(pool, UPLINK_KBIT, image);
    const [withSecret, without] = [pool.hosts.slice(0, 2), pool.host(2)];
    const { result: pulls, wan } = await pool.countWan(() => pullOnAll(withSecret, image, { user: USER }));
    await checkPulls(findings, `${name}: with the secret`, pulls, image);
    const refused = await pullOn(without, image);
    findings.isTrue(`${name}: refused without it`, refused.result.code !== 0);
    const wrong = await pullOn(without, image, { user: 'lab:wrong' });
    findings.isTrue(`${name}: refused with a wrong one`, wrong.result.code !== 0);
    await pool.setUplink('down');
    const offline = await pullOn(pool.host(3), image, { user: USER });
    await checkPulls(findings, `${name}: with the secret, cloud cut`, [offline], image);
    findings.add({
      [name]: {
        wan,
        wanRatio: wan.down / bound.wanBytes,
        without: lastLine(refused.result.stderr),
        wrong: lastLine(wrong.result.stderr),
      },
    });
    findings.atMost(`${name}: WAN bytes against one stream`, wan.down / bound.wanBytes, {
      strict: 1.05,
      loose: 1.1,
    });
    await lab.closePools();
  }
  return findings;
}

/** An index of two platforms: the own one is fetched once, of the other nothing. */
export async function multiArch(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('multi');
  for (const release of lab.releases) {
    const name = `containerd ${release.version}`;
    const pool = await lab.pool({ hosts: HOSTS, uplinkKbit: UPLINK_KBIT, release });
    const bound = await lab.bound(pool, UPLINK_KBIT, image);
    const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts, image));
    await checkPulls(findings, name, pulls, image);
    const foreign = pool.hosts.flatMap((host) =>
      image.foreign.filter((digest) => existsSync(host.containerd.blobPath(digest))),
    );
    findings.none(`${name}: layers of the other platform`, foreign);
    const ran = await pool.host(0).containerd.runContainer(tagOf(image), ['/bin/busybox', 'echo', 'alive']);
    findings.isTrue(`${name}: a container runs`, ran.stdout.trim() === 'alive', ran.stdout || ran.stderr);
    findings.add({ [name]: { bound, wan, wanRatio: wan.down / bound.wanBytes } });
    findings.atMost(`${name}: WAN bytes against one stream`, wan.down / bound.wanBytes, {
      strict: 1.05,
      loose: 1.1,
    });
    await lab.closePools();
  }
  return findings;
}
