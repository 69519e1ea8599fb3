import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** What a finished command left behind; output beyond {@link OUTPUT_LIMIT} characters is cut at the front. */
export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly env?: Readonly<Record<string, string>>;
}

const OUTPUT_LIMIT = 256 * 1024;
const DEFAULT_TIMEOUT_MS = 120_000;

/** Runs a command to its end and never rejects for its exit code; rejects when it cannot be started at all. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [file = '', ...args] = command;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.signal === undefined ? {} : { signal: options.signal, killSignal: 'SIGKILL' as const }),
    });
    let stdout = '';
    let stderr = '';
    const timer = setTimeout(() => {
      stderr += `\n(killed after ${options.timeoutMs ?? DEFAULT_TIMEOUT_MS} ms)`;
      child.kill('SIGKILL');
    }, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    child.stdout.on('data', (chunk: Buffer) => {
      stdout = (stdout + chunk.toString()).slice(-OUTPUT_LIMIT);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-OUTPUT_LIMIT);
    });
    // A child that ends without reading its input closes the pipe first; its exit code tells the story.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(new Error(`cannot run ${command.join(' ')}: ${error.message}`, { cause: error }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** Runs a command that has to succeed. @throws Error with its standard error */
export async function mustRun(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await run(command, options);
  if (result.code !== 0) {
    const text = (result.stderr || result.stdout).trim();
    const input = options.input === undefined ? '' : `\n--- input\n${options.input.trim()}`;
    throw new Error(`${command.join(' ')} ended with code ${result.code}: ${text}${input}`);
  }
  return result;
}

/** A command inside a network namespace. `ip netns exec` would hide the cgroups, which runc needs. */
export function inNetns(netns: string, command: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${netns}`, '--', ...command];
}

/** Milliseconds a stopped process gets before it is killed. */
const STOP_GRACE_MS = 5_000;

/** A process that runs until it is stopped; its output goes to a file. */
export class Daemon {
  readonly label: string;
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly #ended: Promise<void>;

  constructor(init: {
    label: string;
    command: readonly string[];
    logFile: string;
    env?: Readonly<Record<string, string>>;
  }) {
    this.label = init.label;
    this.#logFile = init.logFile;
    const [file = '', ...args] = init.command;
    const log = openSync(init.logFile, 'a');
    try {
      this.#child = spawn(file, args, { stdio: ['ignore', log, log], env: { ...process.env, ...init.env } });
    } finally {
      closeSync(log);
    }
    this.#ended = new Promise((resolve) => {
      this.#child.on('exit', () => resolve());
      this.#child.on('error', () => resolve());
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.label} could not be started`);
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Stops it where it stands, or has it go on. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.running) this.#child.kill(name);
  }

  /** kill -9; resolves when the process is gone. */
  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.#ended;
  }

  async stop(): Promise<void> {
    if (this.running) this.#child.kill('SIGTERM');
    const grace = AbortSignal.timeout(STOP_GRACE_MS);
    const killer = (): void => {
      this.#child.kill('SIGKILL');
    };
    grace.addEventListener('abort', killer, { once: true });
    await this.#ended;
    grace.removeEventListener('abort', killer);
  }

  /** The last lines of its output, for an error message. */
  tail(lines = 15): string {
    return readFileSync(this.#logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }
}

/** Polls until `probe` is true. @throws Error after `timeoutMs`, with what `describe` says */
export async function waitUntil(
  probe: () => boolean | Promise<boolean>,
  init: { timeoutMs: number; everyMs?: number; describe: () => string },
): Promise<void> {
  const deadline = performance.now() + init.timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`${init.describe()} (waited ${init.timeoutMs} ms)`);
    await delay(init.everyMs ?? 25);
  }
}
