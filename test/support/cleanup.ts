type Step = { readonly what: string; readonly undo: () => Promise<void> | void };

/** What a command has to take away again; every step runs, whatever the others do. */
export class Cleanup {
  readonly #steps: Step[] = [];
  readonly #processes: Step[] = [];

  add(what: string, undo: () => Promise<void> | void): void {
    this.#steps.push({ what, undo });
  }

  addProcess(what: string, stop: () => Promise<void>): void {
    this.#processes.push({ what, undo: stop });
  }

  /**
   * First all processes at once, because each may take its time; then the rest, the newest first. May be called again.
   * The answer says what could not be taken away, and why.
   */
  async run(): Promise<string[]> {
    const failures: string[] = [];
    await Promise.all(this.#processes.splice(0).map((step) => attempt(step, failures)));
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      await attempt(step, failures);
    }
    return failures;
  }
}

async function attempt({ what, undo }: Step, failures: string[]): Promise<void> {
  try {
    await undo();
  } catch (error) {
    failures.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
