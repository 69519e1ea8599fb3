import type { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import { cloudCut } from './cloud-cut.ts';
import { cold, cold2, cold20, thinUplink } from './cold.ts';
import { cri } from './cri.ts';
import { ownerKilled, restarted } from './deaths.ts';
import { nodeFaults, poolFaults, siteFaults } from './faults/index.ts';
import { firstByte } from './first-byte.ts';
import { gateways } from './gateways.ts';
import { kubernetes } from './kubernetes.ts';
import { lanCaps } from './lan-caps.ts';
import { badMemory, corruptPeer, rubbishPeer } from './liars.ts';
import { bearer, multiArch, noRange } from './origins.ts';
import { docker, podman } from './other-runtimes.ts';
import { ownImage } from './own-image.ts';
import { plain } from './plain.ts';
import { rolling } from './rolling.ts';
import { runtimeContent } from './runtime-content.ts';
import { upstream } from './upstream.ts';

export interface Scenario {
  readonly name: string;
  readonly summary: string;
  readonly run: (lab: Lab) => Promise<Findings>;
}

/** In the order they run; the one that proves the lab itself comes first. */
export const SCENARIOS: readonly Scenario[] = [
  { name: 'plain', summary: 'plain containerds: n copies over the uplink', run: plain },
  { name: 'cold', summary: 'every host at once, 200 MB, 100 Mbit/s', run: cold },
  { name: 'cold-20', summary: 'every host at once, 20 Mbit/s', run: cold20 },
  { name: 'cold-2', summary: 'every host at once, 2 Mbit/s, a small image', run: cold2 },
  { name: 'first-byte', summary: 'first byte at the runtime, 10 Mbit/s', run: firstByte },
  { name: 'rolling', summary: 'one host after the other, 100 Mbit/s', run: rolling },
  { name: 'cloud-cut', summary: 'uplink gone, pulls by tag and digest, a container runs', run: cloudCut },
  { name: 'owner-killed', summary: 'kill -9 of an agent in the middle of a cold pull', run: ownerKilled },
  { name: 'restarted', summary: 'kill -9 and restart in the middle of a pull', run: restarted },
  { name: 'bad-memory', summary: 'a member hashes its own wrong bytes', run: badMemory },
  { name: 'corrupt-peer', summary: 'a member sends other bytes than it claims', run: corruptPeer },
  { name: 'rubbish-peer', summary: 'a member answers rubbish, or nothing', run: rubbishPeer },
  {
    name: 'node-faults',
    summary: 'single nodes break, one after the other; three questions each',
    run: nodeFaults,
  },
  {
    name: 'pool-faults',
    summary: 'network, hub or half the pool break; three questions each',
    run: poolFaults,
  },
  { name: 'site-faults', summary: 'disks full, all rebooted offline at other addresses', run: siteFaults },
  { name: 'no-range', summary: 'an origin without Range', run: noRange },
  { name: 'bearer', summary: 'a registry that asks for a token', run: bearer },
  { name: 'multi-arch', summary: 'an index of two platforms', run: multiArch },
  { name: 'podman', summary: 'podman by registries.conf, private images, cloud cut', run: podman },
  { name: 'docker', summary: 'docker by registry-mirrors, cloud cut', run: docker },
  { name: 'upstream', summary: 'a seed is asked before the registry, and can be missed', run: upstream },
  { name: 'gateways', summary: 'one gateway reads for the whole pool', run: gateways },
  { name: 'lan-caps', summary: 'what a host sends its neighbours is capped', run: lanCaps },
  { name: 'cri', summary: 'a prefetch ends in the container runtime, where kubelet sees it', run: cri },
  {
    name: 'runtime-content',
    summary: "what lies in a host's containerd is pulled by its neighbours, and kept once",
    run: runtimeContent,
  },
  { name: 'kubernetes', summary: 'kubectl fills two pools, one of them away at first', run: kubernetes },
  { name: 'own-image', summary: "the agent's own image, through the pool", run: ownImage },
  { name: 'thin-uplink', summary: 'every host at once, 256 kbit/s', run: thinUplink },
];
