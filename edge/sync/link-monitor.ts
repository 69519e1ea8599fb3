import type { Clock } from '../../shared/clock.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import { WORTH_TELLING_MS } from './constants.ts';
import { awayMs, type LinkEvent, type LinkState, nextLinkState } from './link-state.ts';

/** Holds the state of the link, and notes an outage that was a long one when it is over. */
export class LinkMonitor {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #events: EventSink | undefined;
  #state: LinkState;

  constructor(
    components: { readonly clock: Pick<Clock, 'now'>; readonly events?: EventSink | undefined },
    init: { readonly hasHub: boolean },
  ) {
    this.#clock = components.clock;
    this.#events = components.events;
    this.#state = init.hasHub ? { kind: 'connecting', since: components.clock.now() } : { kind: 'none' };
  }

  get state(): LinkState {
    return this.#state;
  }

  move(event: LinkEvent): void {
    const now = this.#clock.now();
    const wasAwayMs = awayMs(this.#state, now);
    this.#state = nextLinkState(this.#state, event, now);
    if (this.#state.kind !== 'online' || wasAwayMs < WORTH_TELLING_MS) return;
    this.#events?.note({ kind: 'cut-off', detail: `for ${Math.round(wasAwayMs / 1000)} s` });
  }
}
