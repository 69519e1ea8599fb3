/** Parts of an agent that are too small for a class of their own. */
import { type Clock, every } from '../../shared/clock.ts';
import type { Startable } from '../../shared/lifecycle.ts';

/** A part that is there from its making on, and only has an end. */
export function closing(name: string, close: () => void | Promise<void>): Startable {
  return {
    name,
    start: () => Promise.resolve(),
    stop: async () => {
      await close();
    },
  };
}

/** Something that is done at the start, and again and again until the end. */
export function repeating(name: string, clock: Clock, ms: number, act: () => void): Startable {
  let cancel: () => void = () => undefined;
  return {
    name,
    start: async () => {
      act();
      cancel = every(clock, ms, act);
    },
    stop: async () => cancel(),
  };
}
