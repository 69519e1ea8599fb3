/**
 * Many agents in one process, as the hub sees them: births, reports and the echo of tuning, over the agent's own link.
 * `simulated-agents.ts <broker> <first> <count> <pools>`; ends by SIGTERM.
 */
import { HubLink } from '../../../edge/sync/hub-link.ts';
import { systemClock } from '../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../shared/ids.ts';
import { silentLogger } from '../../../shared/log.ts';
import { MemoryDocuments } from '../memory-documents.ts';
import { simulatedNode, simulatedPool } from './scale.ts';

const [, , broker = '', first = '0', count = '0', pools = '1'] = process.argv;

const links = Array.from({ length: Number(count) }, (_, offset) => {
  const index = Number(first) + offset;
  const link = new HubLink(
    { documents: new MemoryDocuments(), clock: systemClock, log: silentLogger() },
    {
      urls: [broker],
      node: parseNodeName(simulatedNode(index)),
      pool: parsePoolName(simulatedPool(index, Number(pools))),
      bootId: `boot-${process.pid}-${index}`,
      address: `10.2.${index >> 8}.${index & 255}:6181`,
      version: '0.1.0',
      platform: 'linux/arm64',
    },
  );
  const counters = {
    wanBytes: 0,
    peerBytes: 0,
    servedPeerBytes: 0,
    servedRuntimeBytes: 0,
    storedBytes: 0,
    blobs: 0,
  };
  link.report({ counters });
  link.onTuning(({ hash }) => link.report({ tuningHash: hash }));
  return link;
});
await Promise.all(links.map((link) => link.start()));
process.once('SIGTERM', () => {
  Promise.all(links.map((link) => link.stop())).then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
