import { existsSync } from 'node:fs';
import { type Clock, delay } from '../../../shared/clock.ts';
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import { formatImageRef, type ImageRef } from '../../../shared/image-ref.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import { FIRST_TEST_SPREAD_MS, RETEST_JITTER, RETEST_MS } from './constants.ts';
import { type SelfTestResult, selfTest } from './self-test.ts';
import type { Connect, CriImage, PullAccount, RuntimeConnection } from './types.ts';
import type { Witness } from './witness.ts';

/**
 * `yes`: what the runtime pulls is asked of the mirror. `no`: it does not read its hosts directory. `not-configured`: that
 * directory has nothing of ours. `unknown`: there is no CRI socket, or no answer at it.
 */
export type MirrorUse = 'yes' | 'no' | 'not-configured' | 'unknown';

export interface RuntimeState {
  /** Null where CRI is switched off. */
  readonly socket: string | null;
  readonly mirror: MirrorUse;
  /** Name and version, once it has told them. */
  readonly runtime: string | null;
  /** Wall clock of the last self-test that came to an end, ms. */
  readonly checkedAt: number | null;
  readonly reason: string | null;
  /** What a person has to do, where something is to be done. */
  readonly fix: string | null;
}

export interface CriRuntimeComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  readonly witness: Witness;
  readonly connect: Connect;
  /** Why the runtime does not use the mirror, as its files tell. `runtime` is as in {@link RuntimeState}. */
  readonly advise: (runtime: string | null) => {
    readonly mirror: 'no' | 'not-configured';
    readonly fix: string;
  };
  readonly onChange: (state: RuntimeState) => void;
}

export interface CriRuntimeInit {
  /** Undefined: switched off. A path where nothing is yet is looked at again. */
  readonly socket: string | undefined;
  /** Of the self-test; default 30 s. */
  readonly selfTestMs?: number;
}

/** The node's container runtime: brings images into it, and knows whether it uses the mirror. */
export class CriRuntime implements Startable {
  readonly name = 'runtime';
  readonly #c: CriRuntimeComponents;
  readonly #init: CriRuntimeInit;
  readonly #stopping = new AbortController();
  #state: RuntimeState;
  #testing: Promise<RuntimeState> | undefined;
  #following: Promise<RuntimeState> | undefined;
  #loop: Promise<void> | undefined;

  constructor(components: CriRuntimeComponents, init: CriRuntimeInit) {
    this.#c = components;
    this.#init = init;
    this.#state = {
      socket: init.socket ?? null,
      mirror: 'unknown',
      runtime: null,
      checkedAt: null,
      reason: init.socket === undefined ? 'CRI is switched off' : 'not tested yet',
      fix: null,
    };
  }

  async start(): Promise<void> {
    if (this.#init.socket === undefined) return;
    this.#loop = this.#run(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new TidepoolError('ABORTED', 'the agent is stopping'));
    await this.#loop;
    await this.#testing?.catch(() => undefined);
    await this.#following?.catch(() => undefined);
  }

  get state(): RuntimeState {
    return this.#state;
  }

  /** There is a runtime to talk to now. */
  get present(): boolean {
    return this.#init.socket !== undefined && existsSync(this.#init.socket);
  }

  /**
   * Tests what holds from now on. A test that is under way may have seen what has been mended since: another follows it, one
   * for all who ask meanwhile.
   * @throws TidepoolError ABORTED when the agent stops
   */
  selfTest(): Promise<RuntimeState> {
    if (this.#testing === undefined) return this.#begin();
    this.#following ??= this.#testing
      .catch(() => undefined)
      .then(() => {
        this.#following = undefined;
        return this.#begin();
      });
    return this.#following;
  }

  #begin(): Promise<RuntimeState> {
    this.#testing = this.#test(this.#stopping.signal).finally(() => {
      this.#testing = undefined;
    });
    return this.#testing;
  }

  /**
   * Pulls an image through CRI; undefined where there is no socket. What the store holds costs no WAN that way, so it is not
   * tried where the runtime would go past the mirror.
   * @throws TidepoolError RUNTIME_NOT_CONFIGURED when the runtime does not use the mirror, and what a connection throws
   */
  async pull(
    image: ImageRef,
    signal: AbortSignal,
    account?: PullAccount,
  ): Promise<{ readonly imageId: string } | undefined> {
    if (!this.present) return undefined;
    const known = this.#state.mirror === 'yes' ? this.#state : await this.selfTest();
    signal.throwIfAborted();
    if (known.mirror === 'no' || known.mirror === 'not-configured') {
      throw new TidepoolError(
        'RUNTIME_NOT_CONFIGURED',
        `the image is in this node's store, but ${known.runtime ?? 'the container runtime'} does not pull by way of the mirror: ${known.fix ?? known.reason ?? ''}`,
      );
    }
    const { registry, repository } = image;
    const watch = this.#c.witness.watch({ registry, repository });
    try {
      const imageId = await this.#with((connection) =>
        connection.pullImage(formatImageRef(image), { signal, account }),
      );
      if (watch.requests > 0) return { imageId };
    } catch (error) {
      if (watch.requests > 0 || signal.aborted) throw error;
      throw this.#wentAround(image, `: ${describeError(error)}`, error);
    } finally {
      watch.end();
    }
    throw this.#wentAround(image, '');
  }

  /** Images that containers were made of, those that have ended too; undefined where there is no socket. @throws what a connection throws */
  async imagesInUse(signal: AbortSignal): Promise<readonly CriImage[] | undefined> {
    if (!this.present) return undefined;
    return await this.#with(async (connection) => {
      const names = new Set(await connection.listContainerImages({ signal }));
      const images = await connection.listImages({ signal });
      return images.filter(({ id, tags, digests }) =>
        [id, ...tags, ...digests].some((name) => names.has(name)),
      );
    });
  }

  #wentAround({ registry }: ImageRef, why: string, cause?: unknown): TidepoolError {
    if (cause instanceof TidepoolError && cause.code !== 'RUNTIME_ERROR' && cause.code !== 'NOT_FOUND')
      return cause;
    return new TidepoolError(
      'RUNTIME_NOT_CONFIGURED',
      `the container runtime asked others than the mirror for images of ${registry}${why}; run tidepool-agent containerd configure --registry ${registry}`,
      cause === undefined ? {} : { cause },
    );
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#c;
    try {
      await delay(clock, FIRST_TEST_SPREAD_MS * random(), signal);
      for (;;) {
        const { mirror } = await this.selfTest();
        const ms = mirror === 'not-configured' ? RETEST_MS.no : RETEST_MS[mirror];
        await delay(clock, ms * (1 - RETEST_JITTER * random()), signal);
      }
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, 'self-tests of the container runtime have ended');
    }
  }

  async #test(signal: AbortSignal): Promise<RuntimeState> {
    const { socket } = this.#init;
    if (!this.present) {
      const reason = socket === undefined ? 'CRI is switched off' : `there is no socket ${socket}`;
      return this.#enter({ ...this.#state, mirror: 'unknown', reason, fix: null });
    }
    const { witness } = this.#c;
    let result: SelfTestResult;
    try {
      result = await this.#with((connection) =>
        selfTest({ connection, witness }, signal, this.#init.selfTestMs),
      );
    } catch (error) {
      signal.throwIfAborted();
      result = { mirror: 'unknown', runtime: undefined, reason: describeError(error) };
    }
    const runtime = result.runtime ?? null;
    const advice = result.mirror === 'no' ? this.#c.advise(runtime) : undefined;
    return this.#enter({
      socket: socket ?? null,
      mirror: advice?.mirror ?? result.mirror,
      runtime,
      checkedAt: this.#c.clock.now(),
      reason: result.reason ?? null,
      fix: advice?.fix ?? null,
    });
  }

  #enter(state: RuntimeState): RuntimeState {
    const before = this.#state;
    this.#state = state;
    const { mirror, runtime, reason, fix } = state;
    // Reasons tell ports and times, which differ each time: what is logged is what a person would call news.
    if (before.mirror !== mirror || before.runtime !== runtime || before.fix !== fix) {
      const facts = { mirror, runtime, reason, fix };
      if (fix === null) this.#c.log.info(facts, 'whether the container runtime uses the mirror');
      else this.#c.log.warn(facts, 'RuntimeNotConfigured: pods are not pulled by way of the mirror');
    }
    if (
      before.mirror !== mirror ||
      before.runtime !== runtime ||
      before.fix !== fix ||
      before.reason !== reason
    ) {
      this.#c.onChange(state);
    }
    return state;
  }

  /** One connection a task: the runtime may have been restarted since the last one. */
  async #with<T>(use: (connection: RuntimeConnection) => Promise<T>): Promise<T> {
    const connection = await this.#c.connect(this.#init.socket ?? '');
    try {
      return await use(connection);
    } finally {
      connection.close();
    }
  }
}
