import { MIRROR_PORT } from '../agent.ts';
import { Findings } from '../checks.ts';
import type { FirstBytes } from '../first-byte-client.ts';
import type { Lab } from '../lab.ts';
import { REGISTRY_NAME, repositoryOf } from '../origin.ts';
import { inNetns, mustRun } from '../process.ts';
import { script } from '../script.ts';

/** Every host asks at once over 10 Mbit/s: when does a runtime see the first byte of a layer? */
export async function firstByte(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('large');
  const pool = await lab.pool({ hosts: lab.options.hosts, uplinkKbit: 10_000 });
  const base = `http://127.0.0.1:${MIRROR_PORT}`;
  const command = script('first-byte-client.ts', base, repositoryOf(image), 'v1', REGISTRY_NAME);
  const answers = await Promise.all(
    pool.hosts.map(async (host) => parse((await mustRun(inNetns(host.netns, command))).stdout)),
  );
  const first = answers.map((answer) => Math.min(...answer.layers));
  findings.add({
    manifestSeconds: Math.max(...answers.map((answer) => answer.manifest)),
    firstLayerByteSeconds: first,
    everyLayerSeconds: Math.max(...answers.flatMap((answer) => answer.layers)),
  });
  findings.atMost('slowest host: first byte of a layer, seconds', Math.max(...first), {
    strict: 2,
    loose: 8,
  });
  return findings;
}

function parse(text: string): FirstBytes {
  return JSON.parse(text) as FirstBytes;
}
