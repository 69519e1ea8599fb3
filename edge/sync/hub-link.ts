import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { MqttSession } from '../../shared/mqtt/session.ts';
import type { BirthMessage, DeathMessage } from '../../shared/wire/messages/birth.ts';
import { decode, encode } from '../../shared/wire/messages/codec.ts';
import { type CommandMessage, commandMessage } from '../../shared/wire/messages/command.ts';
import { hubState } from '../../shared/wire/messages/hub-state.ts';
import {
  type PrefetchMessage,
  prefetchIndexMessage,
  prefetchMessage,
} from '../../shared/wire/messages/prefetch.ts';
import { rosterMessage } from '../../shared/wire/messages/roster.ts';
import { type TrustMessage, trustMessage } from '../../shared/wire/messages/trust.ts';
import { type TuningMessage, tuningMessage } from '../../shared/wire/messages/tuning.ts';
import { filters, type ParsedTopic, parseTopic, topics } from '../../shared/wire/topics.ts';
import type { TagPin } from '../transfer/tags.ts';
import { readBootstrap } from './bootstrap.ts';
import { CommandBook } from './command-book.ts';
import { KEEPALIVE_SECONDS, RECONNECT, SPREAD_MS } from './constants.ts';
import { DesiredState } from './desired-state.ts';
import type { EventOutbox } from './events.ts';
import { HubVoice } from './hub-voice.ts';
import { LinkMonitor } from './link-monitor.ts';
import { Listeners } from './listeners.ts';
import { type PartialReport, ReportOutbox } from './report-outbox.ts';
import type { Roster } from './roster-assembly.ts';
import type { HubLinkComponents, HubLinkInit, HubLinkState, Taken, TrustTold } from './types.ts';

export type { HubLinkInit, HubLinkState } from './types.ts';

/**
 * The agent's side of the control plane. It works without a hub: listeners are told what was kept from earlier starts,
 * and reports wait as the latest state. Nothing in here throws into its callers or keeps them waiting.
 */
export class HubLink implements Startable {
  readonly name = 'hub link';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #init: HubLinkInit;
  readonly #session: MqttSession;
  readonly #desired: DesiredState;
  readonly #outbox: ReportOutbox;
  readonly #events: EventOutbox | undefined;
  readonly #commands: CommandBook;
  readonly #link: LinkMonitor;
  readonly #poolListeners: Listeners<PoolName>;
  readonly #renewListeners: Listeners<true>;
  readonly #trustListeners: Listeners<TrustTold>;
  readonly #voice: HubVoice;
  #sessionNumber = 0;
  /** On this connection the hub was told of this node. */
  #born = false;
  #cancelRebirth: (() => void) | undefined;

  /** @throws TidepoolError INVALID_ARGUMENT for a URL that is none */
  constructor(components: HubLinkComponents, init: HubLinkInit) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#random = components.random ?? Math.random;
    this.#init = init;
    this.#desired = new DesiredState(components, { node: init.node, pool: init.pool });
    this.#poolListeners = new Listeners(components, 'pool');
    this.#renewListeners = new Listeners(components, 'renewal');
    this.#trustListeners = new Listeners(components, 'trust');
    this.#voice = new HubVoice(components);
    this.#events = components.events;
    this.#commands = new CommandBook(components);
    this.#link = new LinkMonitor(components, { hasHub: init.urls.length > 0 });
    const spreadMs = init.spreadMs ?? SPREAD_MS;
    this.#session = new MqttSession(
      components,
      {
        urls: init.urls,
        // A broker that asks for certificates lets nobody be called otherwise.
        clientId: components.identity === undefined ? `tidepool-agent-${init.node}` : init.node,
        broker: init.broker,
        keepaliveSeconds: init.keepaliveSeconds ?? KEEPALIVE_SECONDS,
        backoff: init.reconnect ?? RECONNECT,
        firstConnectSpreadMs: spreadMs,
        will: (session) => ({ topic: topics.death(init.node), payload: this.#death(session), retain: false }),
        ...(init.localAddress === undefined ? {} : { localAddress: init.localAddress }),
      },
      {
        connected: (session) => void this.#onConnect(session),
        message: (topic, payload, retained) => this.#onMessage(topic, payload, retained),
        disconnected: () => this.#onDisconnect(),
        failed: (failure) => this.#link.move({ kind: 'failed', ...failure }),
      },
    );
    this.#outbox = new ReportOutbox(
      {
        ...components,
        publish: (payload) => this.#session.publish(topics.report(init.node), payload),
      },
      {
        node: init.node,
        bootId: init.bootId,
        ...(init.reportIntervalMs === undefined ? {} : { intervalMs: init.reportIntervalMs }),
      },
    );
    if (this.#events !== undefined) this.#events.onNews = () => this.#outbox.wake();
    this.#desired.onPrefetch((jobs) => this.#outbox.keepOnly(new Set(jobs.map(({ id }) => id))));
  }

  /** Starts connecting; resolves at once. */
  start(): Promise<void> {
    this.#link.move({ kind: 'started' });
    return this.#session.start();
  }

  /** Says that the node leaves, so that nobody waits for its will. */
  async stop(): Promise<void> {
    this.#cancelRebirth?.();
    this.#outbox.close();
    if (this.#session.connected) {
      await this.#session
        .publish(topics.death(this.#init.node), this.#death(this.#sessionNumber))
        .catch((error: unknown) =>
          this.#log.debug({ reason: describeError(error) }, 'could not say goodbye'),
        );
    }
    await this.#session.stop();
    this.#link.move({ kind: 'stopped' });
  }

  state(): HubLinkState {
    const { connected, since, lastError = null } = this.#session.state;
    return { urls: this.#init.urls, connected, since, lastError, state: this.#link.state };
  }

  /** Highest epoch of a hub that was heard, in this start or before; 0 for none. */
  get epoch(): number {
    return this.#desired.epoch;
  }

  /**
   * What the hub has put into a file, in place of what it would say: taken in where it is newer than what is known, and
   * whole or not at all.
   * @param setTrust told whom to trust first
   * @returns undefined when nothing of it is news
   * @throws TidepoolError as {@link readBootstrap}
   */
  bootstrap(
    file: Uint8Array,
    setTrust: (message: TrustMessage, signed: Uint8Array) => void,
  ): Taken | undefined {
    const bootstrap = readBootstrap(file, { pool: this.#init.pool, voice: this.#voice });
    if (bootstrap.epoch < this.#desired.epoch) return undefined;
    if (bootstrap.trust !== undefined && this.#voice.isChecked) {
      setTrust(bootstrap.trust.message, bootstrap.trust.signed);
    }
    if (!this.#desired.take(bootstrap)) return undefined;
    const { epoch, jobs, shards } = bootstrap;
    return { epoch, jobs: jobs.length, nodes: shards.reduce((sum, { nodes }) => sum + nodes.length, 0) };
  }

  /** By the hub's clock, ms; undefined until it has been heard to say so since this start. */
  get hubTime(): number | undefined {
    return this.#commands.exactHubTime;
  }

  /** Messages that were refused: not signed by the hub, unreadable, too large, or of an epoch that is over. */
  get badMessages(): number {
    return this.#voice.refused;
  }

  /** Called with the last known roster now, and with each new one; the answer takes the listener off. */
  onRoster(listener: (roster: Roster) => void): () => void {
    return this.#desired.onRoster(listener);
  }

  /** Called with the last known tuning now, and with each new one. */
  onTuning(listener: (tuning: TuningMessage) => void): () => void {
    return this.#desired.onTuning(listener);
  }

  /** Called with all jobs of this node, now when any is known, and whenever they change. */
  onPrefetch(listener: (jobs: readonly PrefetchMessage[]) => void): () => void {
    return this.#desired.onPrefetch(listener);
  }

  /** Called with what the hub says of tags, now and whenever that changes. */
  onPins(listener: (pins: readonly TagPin[]) => void): () => void {
    return this.#desired.onPins(listener);
  }

  /** Called whenever the hub says that this node is in another pool; the link itself stays with the one it has. */
  onPool(listener: (pool: PoolName) => void): () => void {
    return this.#poolListeners.add(listener, undefined);
  }

  /** Called whenever the hub wants this node to have a new certificate. */
  onRenew(listener: () => void): () => void {
    return this.#renewListeners.add(listener, undefined);
  }

  /**
   * Called with each message of whom to trust, old ones too, after its signature was checked; the bytes are the message
   * as the hub signed it. Never called without an identity.
   */
  onTrust(listener: (message: TrustMessage, signed: Uint8Array) => void): () => void {
    return this.#trustListeners.add(({ message, signed }) => listener(message, signed), undefined);
  }

  /** Merges into what the hub shall know; sent soon, or when there is a hub again. */
  report(partial: PartialReport): void {
    this.#outbox.report(partial);
  }

  async #onConnect(session: number): Promise<void> {
    this.#link.move({ kind: 'connected', url: this.#session.state.url ?? '' });
    this.#sessionNumber = session;
    this.#desired.beginSession();
    try {
      // In this order a hub that comes up meanwhile either hears the birth, or is heard and told again.
      await this.#session.subscribe(filters.agent(this.#init.node, this.#init.pool));
      await this.#birth();
    } catch (error) {
      this.#log.warn({ reason: describeError(error) }, 'could not introduce this node to the hub');
      this.#session.drop();
    }
  }

  #onDisconnect(): void {
    this.#cancelRebirth?.();
    this.#cancelRebirth = undefined;
    this.#born = false;
    this.#outbox.close();
  }

  async #birth(): Promise<void> {
    const { node, pool, bootId, address, version, platform } = this.#init;
    const message: BirthMessage = {
      node,
      pool,
      bootId,
      session: this.#sessionNumber,
      address,
      version,
      platform,
      at: this.#clock.now(),
    };
    this.#born = true;
    await this.#session.publish(topics.birth(node), encode(message));
    // Reports come after the birth: those of a node that was not born are refused.
    this.#outbox.resync();
  }

  /** The hub knows nothing of us any more. All agents learn that in the same moment, so they answer spread out. */
  #rebirth(spreadMs: number): void {
    if (this.#cancelRebirth !== undefined) return;
    this.#cancelRebirth = this.#clock.after(this.#random() * spreadMs, () => {
      this.#cancelRebirth = undefined;
      this.#birth().catch((error: unknown) => {
        // The connection is going; the next one begins with a birth.
        this.#log.debug({ reason: describeError(error) }, 'could not answer the hub');
      });
    });
  }

  #onMessage(topic: string, payload: Uint8Array, retained: boolean): void {
    try {
      this.#dispatch(topic, payload, retained);
    } catch (error) {
      this.#voice.refuse(topic, error);
    }
  }

  #dispatch(topic: string, payload: Uint8Array, retained: boolean): void {
    const parsed = parseTopic(topic);
    if (parsed === undefined) throw new Error('not a topic of ours');
    if ('pool' in parsed && parsed.pool !== this.#init.pool) throw new Error('of another pool');
    if ('node' in parsed && parsed.node !== this.#init.node) throw new Error('of another node');
    if (payload.length === 0) {
      // Only a job is taken back like this. A pool's tuning or roster that is cleared leaves the last good one in force.
      if (parsed.kind !== 'prefetch') return;
      if (!this.#voice.isChecked) this.#desired.removeJob(parsed.id);
      else this.#desired.doubtJob(parsed.id);
      return;
    }
    this.#take(parsed, this.#voice.open(topic, payload), payload, retained);
  }

  #take(parsed: ParsedTopic, payload: Uint8Array, signed: Uint8Array, retained: boolean): void {
    switch (parsed.kind) {
      case 'hub-state': {
        const { state, epoch, at } = decode(hubState, payload, 'hub state');
        const isNew = this.#desired.setEpoch(epoch);
        this.#commands.heard(epoch, at, !retained);
        // Retained, it was online before our birth and has heard it; live, it has just come and has not.
        if (state === 'online' && this.#born && (isNew || !retained)) {
          this.#rebirth(this.#init.spreadMs ?? SPREAD_MS);
        }
        return;
      }
      case 'tuning':
        this.#desired.setTuning(decode(tuningMessage, payload, 'tuning'));
        return;
      case 'roster':
        this.#desired.addRosterShard(decode(rosterMessage, payload, 'roster'));
        return;
      case 'prefetch': {
        const job = decode(prefetchMessage, payload, `prefetch ${parsed.id}`);
        if (job.id !== parsed.id) throw new Error(`the message is of job ${job.id}`);
        this.#desired.setJob(job);
        return;
      }
      case 'prefetch-index':
        this.#desired.setJobIndex(decode(prefetchIndexMessage, payload, 'prefetch index'));
        return;
      case 'trust': {
        if (!this.#voice.isChecked) return;
        const message = decode(trustMessage, payload, 'trust');
        this.#desired.setEpoch(message.epoch);
        this.#trustListeners.tell({ message, signed });
        return;
      }
      case 'command': {
        const message = decode(commandMessage, payload, 'command');
        this.#desired.setEpoch(message.epoch);
        this.#follow(message);
        return;
      }
      default:
        throw new Error(`a ${parsed.kind} is for the hub`);
    }
  }

  #follow(message: CommandMessage): void {
    const { id, command } = message;
    const verdict = this.#commands.judge(message);
    if (verdict === 'expired') {
      this.#log.warn({ id, command: command.kind }, 'a command of the hub came too late and is not followed');
      this.#events?.note({ kind: 'command-expired', key: command.kind });
    }
    if (verdict !== 'follow') return;
    if (command.kind === 'events-kept') this.#events?.acknowledged(command.through);
    else if (command.kind === 'resync') this.#rebirth(0);
    else if (command.kind === 'renew') this.#renewListeners.tell(true);
    else if (command.pool !== this.#init.pool) this.#poolListeners.tell(command.pool);
  }

  #death(session: number): Buffer {
    return encode({ node: this.#init.node, bootId: this.#init.bootId, session } satisfies DeathMessage);
  }
}
