/** The hub's composition root: the only place that constructs across rooms. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import { describeError, TidepoolError } from '../shared/errors.ts';
import type { NodeName } from '../shared/ids.ts';
import { Lifecycle, type Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import { encode } from '../shared/wire/messages/codec.ts';
import type { CommandMessage } from '../shared/wire/messages/command.ts';
import { topics } from '../shared/wire/topics.ts';
import { ApiServer } from './api/server.ts';
import { makeApiAccess } from './api-access.ts';
import { makeAutomation } from './automation.ts';
import { EmbeddedBroker } from './broker/embedded-broker.ts';
import { Inbox } from './broker/inbox.ts';
import { Link } from './broker/link.ts';
import { PoolAssigner } from './broker/pool-assigner.ts';
import { Publisher, type RetainedSink } from './broker/publisher.ts';
import { Reconciler } from './broker/reconciler.ts';
import type { HubSettings } from './config/settings.ts';
import type { DesiredState } from './desired/types.ts';
import { makeEvents } from './event-parts.ts';
import { NodeBook } from './pools/node-book.ts';
import { ObservedNodes } from './pools/observed-nodes.ts';
import type { HubView } from './prefetch/hub-view.ts';
import { JobBook } from './prefetch/job-book.ts';
import { JobDesk } from './prefetch/job-desk.ts';
import { JobStore } from './prefetch/job-store.ts';
import { Pinner } from './prefetch/pinner.ts';
import { Planner } from './prefetch/planner.ts';
import { SizePlanner } from './prefetch/size-planner.ts';
import { StatusTeller } from './prefetch/status-teller.ts';
import { RegistryClient } from './registry/registry-client.ts';
import { RegistryMap } from './registry/registry-map.ts';
import { makeSources } from './sources.ts';
import { Terms } from './terms.ts';
import { startTrust, type Trust } from './trust-parts.ts';

/** How long the start waits for its own broker; an external one may come later. */
const FIRST_CONNECT_MS = 10_000;
const COMMAND_LIFE_MS = 60_000;

export interface Hub {
  /** Bound addresses, `host:port`; `mqtt` is the broker's URL when that is not in this process. */
  readonly mqtt: string;
  readonly api: string;
  /** Of the term; 0 while another hub leads. */
  readonly epoch: number;
  stop(): Promise<void>;
}

export interface HubComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly version?: string;
  /** Where a pod finds its cluster. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Builds and starts a hub; resolves when it answers and, with the embedded broker and without Kubernetes, publishes.
 * @throws the failure of the part that could not start; everything is stopped again then
 */
export async function startHub(components: HubComponents, settings: HubSettings): Promise<Hub> {
  const { clock, log, env = {}, version = 'unknown' } = components;
  const trust = await startTrust({ clock, log, env }, settings, version);
  const identity = trust?.identity;
  const broker =
    settings.broker === 'embedded' ? new EmbeddedBroker({ clock, log, identity }, settings.mqtt) : undefined;
  try {
    // The broker's port is known only once it listens, and the link needs it.
    await broker?.start();
    return await startParts(components, settings, { broker, trust });
  } catch (error) {
    await broker?.stop();
    await trust?.stop();
    throw error;
  }
}

async function startParts(
  { clock, log, version = 'unknown', env = {} }: HubComponents,
  settings: HubSettings,
  { broker, trust }: { readonly broker: EmbeddedBroker | undefined; readonly trust: Trust | undefined },
): Promise<Hub> {
  const sources = await makeSources({ clock, log, env }, settings, {
    version,
    api: () => (env.POD_IP === undefined ? api.address : `${env.POD_IP}:${settings.api.port}`),
    workloads: () => followsWorkloads(reconciler.view, sources.source.current()),
  });
  const { source, leadership } = sources;
  const identity = trust?.identity;
  leadership.onChange(() => {
    if (leadership.leads) trust?.reload();
  });
  const observed = new ObservedNodes({ clock });
  const jobs = new JobStore({ directory: path.join(settings.data, 'prefetches') });
  const book = new NodeBook(
    { clock, log, observed },
    {
      file: path.join(settings.data, 'nodes.json'),
      documented: () =>
        new Set([
          ...source.current().nodes.map(({ name }) => name),
          ...(trust?.book.nodes.enrolled().keys() ?? []),
        ]),
    },
  );
  const makeLink = (epoch: number): Link =>
    new Link(
      { clock, log, identity },
      {
        ...(broker?.login ?? { url: settings.broker, broker: settings.brokerTrust }),
        epoch,
        leads: () => leadership.leads,
      },
      {
        connected: () => {
          if (leadership.leads) publisher.resume();
        },
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
  const publish: RetainedSink['publish'] = (topic, payload, options) =>
    terms.link?.publish(topic, payload, options) ??
    Promise.reject(new TidepoolError('HUB_UNREACHABLE', 'this hub does not lead'));
  const publisher = new Publisher({ clock, log, sink: { publish } }, { epoch: leadership.epoch ?? 0 });
  const registry = new RegistryClient({ map: new RegistryMap(settings.registries ?? {}) });
  const records = new JobBook({ clock, log }, { directory: path.join(settings.data, 'prefetch-records') });
  const onJobs = (): void => reconciler.mark();
  const pinner =
    settings.pinTags === false
      ? undefined
      : new Pinner({ clock, log, registry, secrets: sources.secrets }, { onChange: onJobs });
  const sizes = new SizePlanner({ registry });
  const desk = new JobDesk({ clock, book: records, pinner, sizes }, { onChange: onJobs });
  const teller = new StatusTeller({ clock, log, jobs, feedback: sources.feedback }, { onDue: onJobs });
  const automation = makeAutomation({ clock, log, observed, jobs }, settings);
  const reconciler = new Reconciler(
    {
      clock,
      log,
      source,
      jobs,
      derived: automation.derived,
      desk,
      teller,
      observed,
      publisher,
      enrolled: trust?.book.nodes,
      trust: trust?.book,
      feedback: sources.feedback,
    },
    { data: settings.data, open: settings.insecure },
  );
  const terms = new Terms({ clock, log, sources, publisher, reconciler, makeLink });
  /** Given so far: no two have one id, also of one millisecond. */
  let commands = 0;
  /** Rejects while this hub does not lead. */
  const command = async (node: NodeName, content: CommandMessage['command']): Promise<void> => {
    const { epoch, link } = terms;
    if (epoch === undefined || link === undefined) {
      throw new TidepoolError('HUB_UNREACHABLE', 'this hub does not lead');
    }
    const at = clock.now();
    const id = `${epoch}-${at}-${++commands}`;
    const message: CommandMessage = { id, epoch, at, expiresAt: at + COMMAND_LIFE_MS, command: content };
    await link.publish(topics.command(node), encode(message));
  };
  const assigner = new PoolAssigner({
    clock,
    log,
    observed,
    members: () => reconciler.view.membership.nodes,
    leads: () => leadership.leads,
    // The pool of a node that holds a certificate stands in that.
    send: (node, content) =>
      command(node, trust?.book.nodes.poolOf(node) === undefined ? content : { kind: 'renew' }),
  });
  const events = makeEvents({ clock, log, command }, { data: settings.data });
  const inbox = new Inbox({
    clock,
    log,
    observed,
    events: events.forInbox,
    onMoved: () => {
      book.mark();
      reconciler.mark();
    },
    onProgress: () => reconciler.markJobs(),
    resync: (node) => {
      if (!leadership.leads) return;
      command(node, { kind: 'resync' }).catch((error: unknown) => {
        log.debug({ node, reason: describeError(error) }, 'could not ask for a resync');
      });
    },
  });
  const access = makeApiAccess({ clock, log, sources }, settings);
  const api = new ApiServer(
    {
      clock,
      log,
      identity,
      ...access.components,
      trust:
        trust === undefined
          ? undefined
          : {
              authority: trust.authority,
              book: trust.book,
              enrolment: trust.enrolment((node) => reconciler.view.membership.nodes.get(node)?.pool),
              tellRenew: (node) => command(node, { kind: 'renew' }),
              now: () => clock.now(),
            },
      reconciler,
      observed,
      events: events.book.events,
      jobs,
      planner: new Planner({
        registry,
        sizes,
        desk,
        membership: () => reconciler.view.membership,
        lookup: (node) => observed.get(node),
      }),
      link: {
        get state() {
          return terms.linkState;
        },
      },
      publisher,
      inbox,
      problems: () => [
        ...reconciler.view.problems,
        ...publisher.problems(),
        ...observed.problems(),
        ...sources.problems(),
        ...automation.problems(),
      ],
      hook: automation.hook,
      forget: (node) => {
        if (observed.forget(Number.NEGATIVE_INFINITY, (each) => each !== node) === 0) return false;
        events.book.forget(node);
        book.mark();
        return true;
      },
      brokerConnections: () => broker?.connections ?? 0,
      notReady: sources.notReady,
      standby: sources.standby,
    },
    { ...settings.api, openMetrics: settings.openMetrics ?? false },
  );
  const asking: Startable = {
    name: 'registry client',
    start: async () => undefined,
    stop: async () => registry.close(),
  };
  const life = new Lifecycle(
    [
      ...sources.parts,
      asking,
      jobs,
      records,
      book,
      events.book,
      ...automation.parts,
      terms,
      assigner,
      ...access.parts,
      api,
    ],
    log,
  );
  await life.start();
  if (terms.link !== undefined && !(await terms.link.ready(FIRST_CONNECT_MS))) {
    const reason = terms.linkState.lastError;
    if (broker !== undefined) {
      await life.stop();
      throw new TidepoolError('HUB_UNREACHABLE', `the hub cannot reach its own broker: ${reason}`);
    }
    log.warn({ broker: settings.broker, reason }, 'the broker cannot be reached yet; trying on');
  }
  return {
    mqtt: broker?.address ?? settings.broker,
    api: api.address,
    get epoch() {
      return terms.epoch ?? 0;
    },
    stop: async () => {
      await life.stop();
      await broker?.stop();
      await trust?.stop();
    },
  };
}

/** Whether workloads have to be watched: a pool follows them, or a job names one. */
function followsWorkloads(view: HubView, desired: DesiredState): boolean {
  return (
    desired.prefetches.some(({ selector }) => selector.workloadRef !== undefined) ||
    [...view.tuning.values()].some(
      ({ settings, nodes }) =>
        settings.prefetch?.followWorkloads === true ||
        Object.values(nodes ?? {}).some(({ prefetch }) => prefetch?.followWorkloads === true),
    )
  );
}
