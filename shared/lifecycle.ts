import type { Logger } from './log.ts';

/** A part with a life of its own. Started in order by the composition root, stopped in reverse. */
export interface Startable {
  readonly name: string;
  start(): Promise<void>;
  /** Never throws for a part that was not started; bounded by the part itself. */
  stop(): Promise<void>;
}

/** Starts parts in order; when one fails, those already started are stopped again, and the failure is thrown. */
export class Lifecycle {
  readonly #parts: readonly Startable[];
  readonly #log: Logger;
  #started: Startable[] = [];

  constructor(parts: readonly Startable[], log: Logger) {
    this.#parts = parts;
    this.#log = log;
  }

  async start(): Promise<void> {
    for (const part of this.#parts) {
      try {
        await part.start();
        this.#started.push(part);
      } catch (error) {
        this.#log.error({ part: part.name, err: error }, 'could not start');
        await this.stop();
        throw error;
      }
    }
  }

  async stop(): Promise<void> {
    const parts = this.#started.reverse();
    this.#started = [];
    for (const part of parts) {
      try {
        await part.stop();
      } catch (error) {
        this.#log.error({ part: part.name, err: error }, 'could not stop cleanly');
      }
    }
  }
}
