/** The hub's composition root: the only place that constructs across rooms. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import { describeError, TidepoolError } from '../shared/errors.ts';
import { Lifecycle, type Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import { type CommandMessage, encode } from '../shared/wire/messages.ts';
import { topics } from '../shared/wire/topics.ts';
import { ApiServer } from './api/server.ts';
import { EmbeddedBroker } from './broker/embedded-broker.ts';
import { Inbox } from './broker/inbox.ts';
import { Link } from './broker/link.ts';
import { Publisher } from './broker/publisher.ts';
import { Reconciler } from './broker/reconciler.ts';
import type { HubSettings } from './config/settings.ts';
import { nextEpoch } from './data/epoch.ts';
import { type DesiredSource, EMPTY_STATE } from './desired/types.ts';
import { DocumentDirectory } from './documents/document-directory.ts';
import { NodeBook } from './pools/node-book.ts';
import { ObservedNodes } from './pools/observed-nodes.ts';
import { JobStore } from './prefetch/job-store.ts';

/** How long the start waits for its own broker; an external one may come later. */
const FIRST_CONNECT_MS = 10_000;
const COMMAND_LIFE_MS = 60_000;

export interface Hub {
  /** Bound addresses, `host:port`; `mqtt` is the broker's URL when that is not in this process. */
  readonly mqtt: string;
  readonly api: string;
  readonly epoch: number;
  stop(): Promise<void>;
}

export interface HubComponents {
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Builds and starts a hub; resolves when it answers and, with the embedded broker, publishes.
 * @throws the failure of the part that could not start; everything is stopped again then
 */
export async function startHub(components: HubComponents, settings: HubSettings): Promise<Hub> {
  const { clock, log } = components;
  const epoch = await nextEpoch(settings.data, clock);
  const broker = settings.broker === 'embedded' ? new EmbeddedBroker({ log }, settings.mqtt) : undefined;
  // The broker's port is known only once it listens, and the link needs it.
  await broker?.start();
  try {
    return await startParts(components, settings, broker, epoch);
  } catch (error) {
    await broker?.stop();
    throw error;
  }
}

async function startParts(
  { clock, log }: HubComponents,
  settings: HubSettings,
  broker: EmbeddedBroker | undefined,
  epoch: number,
): Promise<Hub> {
  const source: DesiredSource =
    settings.documents === undefined
      ? nothing()
      : new DocumentDirectory({ clock, log }, { path: settings.documents });
  const observed = new ObservedNodes({ clock });
  const jobs = new JobStore({ directory: path.join(settings.data, 'prefetches') });
  const book = new NodeBook(
    { clock, log, observed },
    {
      file: path.join(settings.data, 'nodes.json'),
      documented: () => new Set(source.current().nodes.map(({ name }) => name)),
    },
  );
  const link = new Link(
    { clock, log },
    { ...(broker?.login ?? { url: settings.broker }), epoch },
    {
      connected: () => publisher.resume(),
      disconnected: () => {
        publisher.pause();
        observed.doubtAll();
      },
      message: (topic, payload) => inbox.take(topic, payload),
      retained: (found) => {
        const cleared = publisher.clearStrays(found);
        if (cleared > 0) log.info({ cleared }, 'cleared retained messages of an earlier start');
      },
    },
  );
  const publisher = new Publisher({ clock, log, sink: link }, { epoch });
  const reconciler = new Reconciler(
    { clock, log, source, jobs, observed, publisher },
    { data: settings.data, open: settings.insecure },
  );
  const inbox = new Inbox({
    clock,
    log,
    observed,
    onMoved: () => {
      book.mark();
      reconciler.mark();
    },
    resync: (node) => {
      const message: CommandMessage = {
        id: `${epoch}-${clock.now()}`,
        epoch,
        expiresAt: clock.now() + COMMAND_LIFE_MS,
        command: { kind: 'resync' },
      };
      link.publish(topics.command(node), encode(message)).catch((error: unknown) => {
        log.debug({ node, reason: describeError(error) }, 'could not ask for a resync');
      });
    },
  });
  const api = new ApiServer(
    {
      log,
      reconciler,
      observed,
      jobs,
      link,
      publisher,
      inbox,
      problems: () => [...reconciler.view.problems, ...publisher.problems()],
      brokerConnections: () => broker?.connections ?? 0,
    },
    settings.api,
  );
  const publishing: Startable = {
    name: 'publisher',
    start: async () => undefined,
    stop: async () => publisher.stop(),
  };
  const life = new Lifecycle([source, jobs, book, reconciler, publishing, link, api], log);
  await life.start();
  if (!(await link.ready(FIRST_CONNECT_MS))) {
    const reason = link.state.lastError;
    if (broker !== undefined) {
      await life.stop();
      throw new TidepoolError('HUB_UNREACHABLE', `the hub cannot reach its own broker: ${reason}`);
    }
    log.warn({ broker: settings.broker, reason }, 'the broker cannot be reached yet; trying on');
  }
  return {
    mqtt: broker?.address ?? settings.broker,
    api: api.address,
    epoch,
    stop: async () => {
      await life.stop();
      await broker?.stop();
    },
  };
}

/** No documents: pools and jobs come from births and the API alone. */
function nothing(): DesiredSource {
  return {
    name: 'no documents',
    start: async () => undefined,
    stop: async () => undefined,
    current: () => EMPTY_STATE,
    onChange: () => () => undefined,
  };
}
