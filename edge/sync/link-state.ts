/**
 * Where this node stands with its hub, as people and metrics are told: one state machine, without I/O. Nothing that
 * serves content asks it, and nothing waits for it to change.
 */

/** Times are wall clock, ms. */
export type LinkState =
  /** No hub is set. */
  | { readonly kind: 'none' }
  /** Not tried to the end yet since the agent has started. */
  | { readonly kind: 'connecting'; readonly since: number }
  | { readonly kind: 'online'; readonly since: number; readonly url: string }
  /** No answer. `since`: when it was last there, or the agent started. */
  | Away<'offline'>
  /** There is an answer, and it is no: trying again alone will not change that. */
  | Away<'refused'>
  | { readonly kind: 'stopped'; readonly since: number };

interface Away<K> {
  readonly kind: K;
  readonly since: number;
  readonly why: string;
  readonly retryAt: number;
  /** In a row that came to nothing. */
  readonly attempts: number;
}

export type LinkStateKind = LinkState['kind'];
export const LINK_STATES: readonly LinkStateKind[] = [
  'none',
  'connecting',
  'online',
  'offline',
  'refused',
  'stopped',
];

/** What the connection does, as its session tells. */
export type LinkEvent =
  | { readonly kind: 'started' }
  | { readonly kind: 'connected'; readonly url: string }
  /** An attempt has failed, or a connection has ended. */
  | {
      readonly kind: 'failed';
      readonly why: string;
      /** The other side said no. */
      readonly refused: boolean;
      readonly retryInMs: number;
    }
  | { readonly kind: 'stopped' };

/** @param now wall clock, ms */
export function nextLinkState(state: LinkState, event: LinkEvent, now: number): LinkState {
  // Without a hub there is nobody to connect to, and a link that was stopped has nothing to say until it is started.
  if (state.kind === 'none' || (state.kind === 'stopped' && event.kind !== 'started')) return state;
  switch (event.kind) {
    case 'started':
      return state.kind === 'stopped' ? { kind: 'connecting', since: now } : state;
    case 'connected':
      return { kind: 'online', since: now, url: event.url };
    case 'failed': {
      const wasAway = state.kind === 'offline' || state.kind === 'refused';
      return {
        kind: event.refused ? 'refused' : 'offline',
        // An outage begins when the connection ends, not with the last attempt of many.
        since: state.kind === 'online' ? now : state.since,
        why: event.why,
        retryAt: now + event.retryInMs,
        attempts: wasAway ? state.attempts + 1 : 1,
      };
    }
    case 'stopped':
      return { kind: 'stopped', since: now };
  }
}

/** How long the hub has been away, ms; 0 while it is there, or nobody expects it. */
export function awayMs(state: LinkState, now: number): number {
  return state.kind === 'offline' || state.kind === 'refused' ? Math.max(0, now - state.since) : 0;
}
