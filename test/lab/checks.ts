/** What a scenario found, and what it had to find. */

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly found: number | string | boolean;
  readonly wanted: string;
}

const FOUND_LIMIT = 600;

export type Figures = Record<string, unknown>;

/** Collects a scenario's figures and checks; a scenario goes on after a failed check. */
export class Findings {
  readonly figures: Figures = {};
  readonly checks: Check[] = [];
  readonly #strict: boolean;

  constructor(init: { strict: boolean }) {
    this.#strict = init.strict;
  }

  add(figures: Figures): void {
    Object.assign(this.figures, figures);
  }

  /**
   * A figure with an upper bound: `strict` is the target, `loose` what an ordinary run allows so that a busy machine
   * does not fail it.
   */
  atMost(name: string, value: number, limits: { strict: number; loose: number }): void {
    const limit = this.#strict ? limits.strict : limits.loose;
    this.checks.push({ name, ok: value <= limit, found: round(value), wanted: `<= ${round(limit)}` });
  }

  atLeast(name: string, value: number, limits: { strict: number; loose: number }): void {
    const limit = this.#strict ? limits.strict : limits.loose;
    this.checks.push({ name, ok: value >= limit, found: round(value), wanted: `>= ${round(limit)}` });
  }

  isTrue(name: string, ok: boolean, found: string = String(ok)): void {
    this.checks.push({ name, ok, found: found.slice(0, FOUND_LIMIT), wanted: 'true' });
  }

  /** Passes when the list is empty; its first entries are the finding otherwise. */
  none(name: string, problems: readonly string[]): void {
    const found = problems.length === 0 ? 'none' : problems.slice(0, 3).join('; ').slice(0, FOUND_LIMIT);
    this.checks.push({ name, ok: problems.length === 0, found, wanted: 'none' });
  }
}

/** Thrown by a scenario that cannot run here, with the reason. */
export class Skip extends Error {
  override readonly name = 'Skip';
}

export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
