/** A new disk where no hub can be reached: what the hub has put into a file, taken in before anything else. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import type { PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { MAX_BOOTSTRAP_BYTES } from '../../shared/wire/bootstrap.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { AgentIdentity } from '../identity/agent-identity.ts';
import { bootstrapProblem } from '../sync/bootstrap.ts';
import type { HubLink } from '../sync/hub-link.ts';

/**
 * Takes it in where it is newer than what the disk has. Before the parts listen to the link, so that they begin with it.
 * @throws TidepoolError INVALID_CONFIG when it cannot be used and the disk has nothing either
 */
export function takeBootstrap(
  components: {
    readonly link: Pick<HubLink, 'bootstrap' | 'epoch'>;
    readonly identity: AgentIdentity | undefined;
    readonly events: EventSink;
    readonly log: Logger;
  },
  init: { readonly file: string; readonly pool: PoolName },
): void {
  const { link, identity, events, log } = components;
  const { file, pool } = init;
  if (identity?.enrolled === false) {
    log.warn(
      { file },
      'the bootstrap file is not read yet: without a certificate this node cannot tell whether the hub has signed it. ' +
        'Enrol the node where a hub can be reached (--hub and --join), or keep the directory identity/ of its old disk',
    );
    return;
  }
  try {
    const news = link.bootstrap(read(file), (message, signed) => identity?.setTrust(message, signed));
    if (news === undefined) {
      log.info({ file }, 'the bootstrap file says nothing that is not known');
      return;
    }
    log.info({ file, ...news }, 'the bootstrap file is taken in');
    events.note({
      kind: 'bootstrapped',
      detail: `epoch ${news.epoch}, ${news.nodes} nodes, ${news.jobs} jobs`,
    });
  } catch (error) {
    const problem = bootstrapProblem(file, pool, error);
    // What was told before is enough to work by: a stick that was pulled out keeps no node from starting.
    if (link.epoch === 0) throw problem;
    log.error(
      { file, reason: problem.message },
      'the bootstrap file is left out; going on with what is known',
    );
  }
}

function read(file: string): Uint8Array {
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    if (size > MAX_BOOTSTRAP_BYTES) throw new Error(`${size} bytes; at most ${MAX_BOOTSTRAP_BYTES} are read`);
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
