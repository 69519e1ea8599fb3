import type { NodeName } from '../../shared/ids.ts';

/**
 * One piece on its way to this node, from whomever. There is at most one a piece; everyone who needs the piece waits for
 * it. While `via` is 'origin' the piece is claimed: neighbours that ask for it are held. It outlives its callers.
 */
export class Flight {
  readonly piece: number;
  readonly done: Promise<void>;
  /** Lower goes first; sinks when someone more urgent joins. */
  order: number;
  priority: number;
  via: 'peer' | 'origin';
  /** The neighbour that was asked, while `via` is 'peer'. */
  from: NodeName | undefined;
  /** Bytes at hand. */
  bytes = 0;
  /** Nodes that may not be asked for it any more, and why the last of them was given up. */
  readonly excluding = new Set<NodeName>();
  error: unknown;
  /** Ends the ask that is out, so that the flight can take another way. */
  turn: AbortController | undefined;
  /** This node has been told, or has decided, to fetch it itself. */
  mine = false;
  /** The piece has come, though it may have gone again since. */
  landed = false;
  readonly #end = withResolvers<void>();
  #held = withResolvers<void>();

  constructor(piece: number, priority: number, order: number) {
    this.piece = piece;
    this.priority = priority;
    this.order = order;
    this.via = 'peer';
    this.done = this.#end.promise;
    // Nobody may be waiting when it fails: the next ask or reader starts a flight of its own and meets the reason there.
    this.done.catch(() => undefined);
    this.#held.promise.catch(() => undefined);
  }

  land(): void {
    this.landed = true;
    this.#end.resolve();
    this.#held.resolve();
  }

  crash(reason: unknown): void {
    this.#end.reject(reason);
    this.#held.reject(reason);
  }

  /** What neighbours that asked for the piece wait for: it lands, or this node gives up its claim to it. */
  get held(): Promise<void> {
    return this.#held.promise;
  }

  /** This node asks others from here on: whoever it holds must not wait for that, the chain could close into a circle. */
  giveUp(reason: unknown): void {
    this.#held.reject(reason);
    this.#held = withResolvers<void>();
    this.#held.promise.catch(() => undefined);
  }

  /** Takes the piece over: the ask that is out, if any, is ended, and the origin is read instead. */
  takeOver(): void {
    this.mine = true;
    if (this.via === 'peer') this.turn?.abort(new Error('taken over'));
  }
}

/** Promise.withResolvers, which Node 20 has not. */
export function withResolvers<T = void>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
