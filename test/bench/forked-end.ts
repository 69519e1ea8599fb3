import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Cleanup } from '../support/cleanup.ts';

interface Message {
  readonly kind: string;
}

/** A module that runs in a process of its own, so that its processor time can be told from the bench's. One question at a time. */
export class ForkedEnd<To extends Message, From extends Message> {
  readonly #process: ChildProcess;
  readonly #ended: Promise<never>;

  constructor(cleanup: Cleanup, name: string, module: URL) {
    this.#process = fork(module, { serialization: 'json' });
    this.#ended = once(this.#process, 'exit').then(([code]) => {
      throw new Error(`the ${name} has ended with ${code}`);
    });
    this.#ended.catch(() => undefined);
    cleanup.add(name, () => this.stop());
  }

  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error('the process did not start');
    return pid;
  }

  async ask<K extends From['kind']>(message: To, kind: K): Promise<Extract<From, { kind: K }>> {
    this.#process.send(message);
    const [answer] = (await Promise.race([once(this.#process, 'message'), this.#ended])) as [From];
    if (answer.kind !== kind) throw new Error(`a process answers ${answer.kind} to ${message.kind}`);
    return answer as Extract<From, { kind: K }>;
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }
}
