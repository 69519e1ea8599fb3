import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { imagesOf } from '../../images/contents.ts';
import { writeImage } from '../../images/layout.ts';
import { Findings } from '../checks.ts';
import type { SampleImage } from '../image.ts';
import { type Lab, tagOf } from '../lab.ts';
import { checkPulls, type HostPull, pullOn } from './parts.ts';

const NODE = '/nodejs/bin/node';
const PROGRAM = '/app/tidepool-agent.mjs';

/** The agent's own image comes through the pool, the last of it without the uplink, and runs as an agent. */
export async function ownImage(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const uplinkKbit = 100_000;
  const pool = await lab.pool({ hosts: 3, uplinkKbit });
  const directory = mkdtempSync(join(tmpdir(), 'tidepool-own-image-'));
  let image: SampleImage;
  try {
    image = await agentImage(directory);
    await lab.origin.push(image);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  const bound = await lab.bound(pool, uplinkKbit, image);
  const pulls: HostPull[] = [];
  const { wan } = await pool.countWan(async () => {
    pulls.push(...(await Promise.all([pool.host(0), pool.host(1)].map((host) => pullOn(host, image)))));
    await pool.setUplink('down');
    pulls.push(await pullOn(pool.host(2), image, { timeoutMs: 120_000 }));
  });
  await checkPulls(findings, 'own image', pulls, image);
  const wanRatio = wan.down / bound.wanBytes;
  findings.add({ bytes: image.bytes, bound, wan, wanRatio, seconds: pulls.map(({ seconds }) => seconds) });
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.02, loose: 1.05 });
  const { containerd } = pool.host(2);
  const version = await containerd.runContainer(tagOf(image), [NODE, PROGRAM, 'version', '--json']);
  findings.isTrue('the image runs', version.stdout.includes('"version"'), version.stdout + version.stderr);
  // Settings are read; a container without the host's network has no address to give neighbours.
  const refused = await containerd.runContainer(tagOf(image), [NODE, PROGRAM, 'run', '--insecure']);
  findings.isTrue('it says what it lacks', refused.stderr.includes('--address'), refused.stderr);
  return findings;
}

/** What `test/images/build.ts` makes, as the lab's other images are. */
async function agentImage(layout: string): Promise<SampleImage> {
  const { agent } = await imagesOf('v1');
  const digest = await writeImage(layout, agent);
  const text = readFileSync(join(layout, 'blobs/sha256', digest.replace('sha256:', '')), 'utf8');
  const { config, layers }: { config: Descriptor; layers: Descriptor[] } = JSON.parse(text);
  const blobs = [config, ...layers].map(({ digest: name, size }) => ({ digest: name, size }));
  const bytes = blobs.reduce((sum, { size }) => sum + size, 0);
  return {
    name: 'tidepool-agent',
    layout,
    digest,
    manifest: digest,
    blobs,
    bytes,
    runnable: true,
    foreign: [],
  };
}

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}
