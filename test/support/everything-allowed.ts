import type { AccessAnswer } from '../../edge/peers/types.ts';

/** A node on which every digest is of every repository and open to all: for tests that are about something else. */
export const EVERYTHING = {
  scope: {
    has: () => true,
    hasManifest: () => true,
    get: () => undefined,
    addManifest: () => undefined,
    shownBy: () => true,
  },
  scopeCheck: {
    known: () => true,
    ensure: () => Promise.resolve(),
    learnFrom: () => Promise.resolve(true),
  },
  provenance: { mayShare: () => true, begin: () => undefined, prove: () => undefined },
  apart: {
    read: () => {
      throw new Error('nothing is read apart');
    },
  },
  patience: {
    put: <T>(_name: unknown, _init: unknown, ask: (signal: AbortSignal) => Promise<T>) => {
      const answer = ask(new AbortController().signal);
      return { answer, patient: answer, quiet: Promise.resolve(false) };
    },
  },
  gate: { tell: (): AccessAnswer => ({}), granted: () => undefined },
};
