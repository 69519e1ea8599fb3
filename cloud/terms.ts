import type { Clock } from '../shared/clock.ts';
import { Lifecycle, type Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import type { MqttSessionState } from '../shared/mqtt/session.ts';
import type { Link } from './broker/link.ts';
import type { Publisher } from './broker/publisher.ts';
import type { Sources } from './sources.ts';

/** After a term that could not begin. */
const RETRY_MS = 10_000;

const NO_LINK: MqttSessionState = { connected: false, since: 0, lastError: undefined };

export interface TermsComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly sources: Pick<Sources, 'leadership' | 'decided' | 'source'>;
  readonly publisher: Publisher;
  /** Works while this hub leads, and at no other time. */
  readonly reconciler: Startable;
  readonly makeLink: (epoch: number) => Link;
}

/**
 * What a hub does only while it leads: it connects to the broker, works out what is desired and publishes it, under the
 * epoch of the term. It begins once everything desired is known, and ends the moment that the lease does.
 */
export class Terms implements Startable {
  readonly name = 'leader terms';
  readonly #c: TermsComponents;
  readonly #unsubscribe: (() => void)[] = [];
  #term: { readonly epoch: number; readonly link: Link; readonly life: Lifecycle } | undefined;
  #run: Promise<void> = Promise.resolve();
  #cancelRetry: (() => void) | undefined;
  #stopped = false;

  constructor(components: TermsComponents) {
    this.#c = components;
  }

  /** Undefined while another hub leads. */
  get link(): Link | undefined {
    return this.#term?.link;
  }

  get epoch(): number | undefined {
    return this.#term?.epoch;
  }

  get linkState(): MqttSessionState {
    return this.#term?.link.state ?? NO_LINK;
  }

  /** @throws the failure of a part, where this hub leads from the start */
  async start(): Promise<void> {
    const { leadership, source } = this.#c.sources;
    this.#unsubscribe.push(
      leadership.onChange(() => this.#follow()),
      source.onChange(() => this.#follow()),
    );
    await this.#adapt();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    this.#cancelRetry?.();
    await this.#run;
    await this.#end();
    this.#c.publisher.stop();
  }

  #follow(): void {
    const { leadership } = this.#c.sources;
    // At once, whatever is being worked on; the rest of the end takes its time.
    if (!leadership.leads) this.#c.publisher.pause();
    if (this.#wanted() === this.#term?.epoch) return;
    this.#run = this.#run
      .then(() => this.#adapt())
      .catch((error: unknown) => {
        this.#c.log.error({ err: error }, 'the term could not begin; trying again');
        this.#cancelRetry?.();
        this.#cancelRetry = this.#c.clock.after(RETRY_MS, () => this.#follow());
      });
  }

  #wanted(): number | undefined {
    const { leadership, decided } = this.#c.sources;
    return leadership.leads && decided() && !this.#stopped ? leadership.epoch : undefined;
  }

  async #adapt(): Promise<void> {
    const epoch = this.#wanted();
    if (epoch === this.#term?.epoch) return;
    await this.#end();
    if (epoch === undefined) return;
    const { publisher, reconciler, makeLink, log } = this.#c;
    publisher.begin(epoch);
    const link = makeLink(epoch);
    // The reconciler first: what is published at the first connection is whole then.
    const life = new Lifecycle([reconciler, link], log);
    await life.start();
    this.#term = { epoch, link, life };
    log.info({ epoch }, 'publishing');
    // The lease may have been lost meanwhile.
    if (this.#wanted() !== epoch) this.#follow();
  }

  async #end(): Promise<void> {
    const term = this.#term;
    if (term === undefined) return;
    this.#term = undefined;
    await term.life.stop();
    this.#c.publisher.pause();
  }
}
