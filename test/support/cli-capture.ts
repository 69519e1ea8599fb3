import { hostname, networkInterfaces } from 'node:os';
import type { CliIo, ExitCode } from '../../edge/cli/io.ts';
import { runCli } from '../../edge/cli/program.ts';
import type { Machine } from '../../edge/config/load-settings.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';

export interface CaptureInit {
  readonly files?: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  /** Columns of a terminal on stderr; none: no terminal. */
  readonly columns?: number;
}

/** What one command line of the agent wrote and ended with. */
export interface Captured {
  readonly code: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

/** The agent's command line in this process, with its surroundings caught. */
export class CliCapture {
  readonly #stop = new AbortController();
  readonly #io: CliIo;
  readonly #waiting: (() => void)[] = [];
  readonly #out: Buffer[] = [];
  #err = '';

  constructor(init: CaptureInit = {}) {
    const { files = {}, environment = {}, clock = systemClock, columns } = init;
    const machine: Machine = {
      environment,
      readFile: (path) => {
        const text = files[path];
        if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`);
        return text;
      },
      hostname,
      networkInterfaces,
    };
    this.#io = {
      machine,
      clock,
      signal: this.#stop.signal,
      stdout: { write: (text) => void this.#out.push(Buffer.from(text)) },
      stderr: {
        write: (text) => {
          this.#err += Buffer.from(text).toString('utf8');
          for (const wake of this.#waiting.splice(0)) wake();
        },
        isTTY: columns !== undefined,
        columns,
      },
    };
  }

  get stderr(): string {
    return this.#err;
  }

  get stdout(): Buffer {
    return Buffer.concat(this.#out);
  }

  async run(...args: string[]): Promise<Captured> {
    const code = await runCli(args, this.#io);
    return { code, stdout: this.stdout.toString('utf8'), stderr: this.#err };
  }

  /** Resolves when stderr has this in it. */
  async shows(text: string): Promise<void> {
    while (!this.#err.includes(text)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** As SIGTERM does. */
  stop(): void {
    this.#stop.abort(new Error('ended by SIGTERM'));
  }
}

/** One command line, from start to end. */
export function cli(args: readonly string[], init: CaptureInit = {}): Promise<Captured> {
  return new CliCapture(init).run(...args);
}
