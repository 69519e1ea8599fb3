import { Findings } from '../../checks.ts';
import type { Lab } from '../../lab.ts';
import { Bed, settled, UPLINK_KBIT } from './bed.ts';
import { disksFull, garbage } from './disk-faults.ts';
import { brokerRestarts, hubLost } from './hub-faults.ts';
import { parted, thinUplink, wanFlaps } from './network-faults.ts';
import {
  allMoved,
  clocksOff,
  containerdRestarted,
  gatewayDead,
  halfRebooted,
  indexDeleted,
  ownerDead,
  stalled,
} from './node-faults.ts';

const HOSTS = { many: 8, few: 4 } as const;

type Fault = (bed: Bed) => Promise<void>;

/** What happens to single nodes, one after the other in one pool. */
const OF_NODES: readonly Fault[] = [
  ownerDead,
  stalled,
  garbage,
  indexDeleted,
  containerdRestarted,
  clocksOff,
  gatewayDead,
];
/** What befalls a whole site. */
const OF_SITES: readonly Fault[] = [disksFull, allMoved];
/** What happens to the network and the hub, and to many nodes at once. */
const OF_POOLS: readonly Fault[] = [halfRebooted, parted, wanFlaps, thinUplink, brokerRestarts, hubLost];

export async function nodeFaults(lab: Lab): Promise<Findings> {
  return await suite(lab, HOSTS.few, OF_NODES);
}

export async function poolFaults(lab: Lab): Promise<Findings> {
  return await suite(lab, HOSTS.many, OF_POOLS);
}

export async function siteFaults(lab: Lab): Promise<Findings> {
  return await suite(lab, HOSTS.many, OF_SITES);
}

async function suite(lab: Lab, hosts: number, faults: readonly Fault[]): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const pool = await lab.pool({ hosts, uplinkKbit: UPLINK_KBIT, plain: false, hub: lab.gatekeeper.broker });
  const bed = new Bed({ lab, findings, pool });
  bed.declare();
  try {
    await settled(bed, await bed.image());
    for (const fault of faults) await fault(bed);
  } finally {
    await bed.close();
  }
  return findings;
}
