import { setMaxListeners } from 'node:events';
import { type Clock, delay } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Slots } from '../../shared/flow/queue.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import { formatBytes } from '../../shared/units.ts';
import type { PrefetchMessage, PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import { type Content, PRIORITY } from '../transfer/types.ts';
import { type AccountSource, JobCredentials, whyRefused } from './accounts.ts';
import { MAX_ERROR_CHARS, MAX_RUNTIME_IMAGES, OFFLINE_RETRY, RETRY } from './constants.ts';
import { intoRuntime, type RuntimeImages, type RuntimeOutcome } from './into-runtime.ts';
import type { KeptImage } from './kept-images.ts';
import { type Platform, parsePlatform, selectPlatform } from './platform.ts';
import { isOtherPlatform, pullImage } from './pull-image.ts';
import { Tally } from './tally.ts';

interface JobRunComponents {
  readonly content: Pick<Content, 'manifest' | 'fill'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Shared by all jobs: one slot an image. */
  readonly slots: Slots;
  readonly random: () => number;
  /** For private images; absent: this node gets no accounts. */
  readonly accounts?: AccountSource | undefined;
  /** Absent: images end in the store. */
  readonly runtime?: RuntimeImages | undefined;
  /** Bytes that the disk still takes; absent where nobody knows. */
  readonly free?: (() => Promise<number>) | undefined;
}

/** What an earlier life of this process, or the run that was called off, has moved: the next run counts on from it. */
export interface Before {
  readonly wanBytes: number;
  readonly peerBytes: number;
  /** Of its images, where this process still has them; the bytes above are without theirs. */
  readonly tallies?: readonly Tally[];
}

interface JobRunInit {
  readonly job: PrefetchMessage;
  readonly platform: Platform;
  readonly before: Before;
  readonly onChange: (run: JobRun) => void;
}

type Outcome = 'succeeded' | 'failed' | 'skipped';

interface ImageRun {
  readonly tally: Tally;
  state: 'waiting' | 'active' | Outcome;
  error: TidepoolError | undefined;
  runtime: RuntimeOutcome | undefined;
  /** What came, once it has. */
  digest: Digest | undefined;
}

/** Nothing is gained by asking again. */
const FINAL_CODES = [
  'INVALID_ARGUMENT',
  'INVALID_REFERENCE',
  'INVALID_DIGEST',
  'REGISTRY_NOT_CONFIGURED',
  'RUNTIME_NOT_CONFIGURED',
] as const;
/**
 * The world is out of reach, or gives nothing now: the job waits for it, however long that takes. A neighbour refuses for
 * reasons of its own, as when its share of the day's budget is used: that says nothing against the image.
 */
const OFFLINE_CODES = [
  'ORIGIN_UNREACHABLE',
  'PEER_UNREACHABLE',
  'OVERLOADED',
  'PIECE_REFUSED',
  // The accounts of private images come from there.
  'HUB_UNREACHABLE',
] as const;

/** One (id, generation) of a prefetch job on this node, from its first attempt to its end. */
export class JobRun {
  readonly job: PrefetchMessage;
  readonly #c: JobRunComponents;
  readonly #init: JobRunInit;
  readonly #images: ImageRun[];
  readonly #controller = new AbortController();
  readonly #credentials: JobCredentials;
  #done: Promise<void> | undefined;

  constructor(components: JobRunComponents, init: JobRunInit) {
    this.#c = components;
    this.#init = init;
    this.job = init.job;
    this.#credentials = new JobCredentials({ clock: components.clock, accounts: components.accounts });
    // Each of the job's images listens.
    setMaxListeners(0, this.#controller.signal);
    this.#images = init.job.images.map((_, index) => ({
      tally: init.before.tallies?.[index] ?? new Tally(),
      state: 'waiting',
      error: undefined,
      runtime: undefined,
      digest: undefined,
    }));
  }

  /** Begins; what is called off does not begin again, but another run counts on from it. */
  run(): void {
    if (this.#done !== undefined) return;
    const { signal } = this.#controller;
    this.#done = Promise.all(this.job.images.map((_, index) => this.#runImage(index, signal))).then(
      () => undefined,
    );
  }

  /** Calls off what is under way; pieces that have come stay. */
  async callOff(): Promise<void> {
    this.#controller.abort(new TidepoolError('ABORTED', 'the prefetch was called off'));
    await this.#done;
  }

  /** For the next run. Downloads outlive who asked for them, so the tallies that know what was counted of them must, too. */
  handOver(): Before {
    const { wanBytes, peerBytes } = this.#init.before;
    return { wanBytes, peerBytes, tallies: this.#images.map((image) => image.tally) };
  }

  /** Images that are here, and what they are. */
  came(): KeptImage[] {
    return this.job.images.flatMap(({ image }, index) => {
      const digest = this.#images[index]?.digest;
      return digest === undefined ? [] : [{ image, digest }];
    });
  }

  progress(): PrefetchProgress {
    const { id, generation, work } = this.job;
    const { wanBytes, peerBytes } = this.#init.before;
    const sum = { totalBytes: 0, doneBytes: 0, wanBytes, peerBytes };
    for (const { tally } of this.#images) {
      const of = tally.progress();
      sum.totalBytes += of.totalBytes;
      sum.doneBytes += of.doneBytes;
      sum.wanBytes += of.wanBytes;
      sum.peerBytes += of.peerBytes;
    }
    const runtime = this.#images.flatMap((image) => image.runtime ?? []).slice(0, MAX_RUNTIME_IMAGES);
    const error = this.#images.find((image) => image.error !== undefined)?.error;
    return {
      id,
      generation,
      ...(work === undefined ? {} : { work }),
      state: this.#state(),
      ...sum,
      ...(runtime.length === 0 ? {} : { runtime }),
      ...(error === undefined
        ? {}
        : { error: { code: error.code, message: error.message.slice(0, MAX_ERROR_CHARS) } }),
    };
  }

  #state(): PrefetchProgress['state'] {
    const states = this.#images.map((image) => image.state);
    if (states.includes('active')) return 'active';
    if (states.includes('waiting')) return 'waiting';
    if (states.includes('failed')) return 'failed';
    return states.includes('succeeded') ? 'succeeded' : 'skipped';
  }

  /** Never rejects: how it went is in the image's state. */
  async #runImage(index: number, signal: AbortSignal): Promise<void> {
    const image = this.#images[index];
    const wanted = this.job.images[index];
    if (image === undefined || wanted === undefined || isOutcome(image.state)) return;
    try {
      this.#enter(image, await this.#attempts(image, wanted, signal), image.error);
    } catch (error) {
      const why = signal.aborted ? undefined : await this.#whyFailed(image, toTidepoolError(error));
      if (signal.aborted) this.#enter(image, 'waiting', undefined);
      else this.#enter(image, 'failed', why);
    }
  }

  /** A full disk is told in bytes: which blob it was that found no room helps nobody. */
  async #whyFailed({ tally }: ImageRun, error: TidepoolError): Promise<TidepoolError> {
    const { free } = this.#c;
    if (error.code !== 'STORE_FULL' || free === undefined) return error;
    try {
      const { totalBytes, doneBytes } = tally.progress();
      const needed = totalBytes === 0 ? 'room' : formatBytes(totalBytes - doneBytes);
      return new TidepoolError(
        'STORE_FULL',
        `disk full: ${needed} needed, ${formatBytes(await free())} free after making room; free some space on this node, and it is tried again`,
        { cause: error },
      );
    } catch (reason) {
      this.#c.log.debug({ why: describeError(reason) }, 'nobody knows how full the disk is');
      return error;
    }
  }

  async #attempts(
    image: ImageRun,
    wanted: PrefetchMessage['images'][number],
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { clock, log, random, slots } = this.#c;
    const retry = new Backoff({ ...RETRY, random });
    const offline = new Backoff({ ...OFFLINE_RETRY, random });
    for (let failures = 0; ; ) {
      const release = await slots.acquire({ signal });
      let failure: TidepoolError;
      try {
        this.#enter(image, 'active', undefined);
        await this.#attempt(image, wanted, signal);
        image.error = undefined;
        return 'succeeded';
      } catch (error) {
        signal.throwIfAborted();
        failure = toTidepoolError(error);
      } finally {
        release();
      }
      if (isOtherPlatform(failure)) {
        image.error = failure;
        return 'skipped';
      }
      const out = OFFLINE_CODES.some((code) => isTidepoolError(failure, code));
      if (!out) failures++;
      log.warn(
        { id: this.job.id, image: wanted.image, code: failure.code, failures },
        describeError(failure),
      );
      if (FINAL_CODES.some((code) => isTidepoolError(failure, code)) || failures > this.job.retries) {
        throw failure;
      }
      this.#enter(image, 'waiting', failure);
      if (!out) offline.reset();
      await delay(clock, (out ? offline : retry).next(), signal);
    }
  }

  /** @throws TidepoolError TIMEOUT when no byte has come for the job's time limit */
  async #attempt(
    image: ImageRun,
    wanted: PrefetchMessage['images'][number],
    signal: AbortSignal,
  ): Promise<void> {
    const ref = parseImageRef(wanted.image);
    const { platform } = this.#init;
    const platforms = (wanted.platforms ?? []).map((text) => ({ platform: parsePlatform(text) }));
    if (platforms.length > 0 && selectPlatform(platforms, platform) === undefined) {
      throw new TidepoolError('NOT_FOUND', `the job is for ${wanted.platforms?.join(', ')}`, {
        details: { reason: 'platform' },
      });
    }
    const attempt = new AbortController();
    const onAbort = (): void => attempt.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const { timeoutMs } = this.job;
    const watch = (): (() => void) =>
      this.#c.clock.after(timeoutMs, () =>
        attempt.abort(
          new TidepoolError(
            'TIMEOUT',
            `no byte of ${wanted.image} came in ${Math.round(timeoutMs / 1000)} s`,
          ),
        ),
      );
    const found = await this.#credentials.find(this.job, ref.registry, signal);
    const { credentials } = found;
    let cancel = watch();
    let moved = 0;
    try {
      const pulled = await pullImage(this.#c, {
        image: wanted.digest === undefined ? ref : { ...ref, digest: wanted.digest },
        credentials,
        platforms: [platform],
        priority: PRIORITY.prefetch,
        signal: attempt.signal,
        tally: image.tally,
        onProgress: ({ wanBytes, peerBytes, blobsDone }) => {
          const now = wanBytes + peerBytes + blobsDone;
          if (now !== moved) {
            moved = now;
            cancel();
            cancel = watch();
          }
          this.#init.onChange(this);
        },
      });
      // Unpacking moves no bytes that could be watched; the pull into the runtime has a time limit of its own.
      cancel();
      image.digest = pulled.digest;
      image.runtime = await intoRuntime(this.#c, {
        image: ref,
        written: wanted.image,
        pinned: wanted.digest !== undefined,
        digest: pulled.digest,
        credentials,
        signal: attempt.signal,
      });
    } catch (error) {
      if (isTidepoolError(error, 'UNAUTHORIZED')) this.#credentials.forget();
      throw whyRefused(error, found);
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  #enter(image: ImageRun, state: ImageRun['state'], error: TidepoolError | undefined): void {
    image.state = state;
    image.error = error;
    this.#init.onChange(this);
  }
}

function isOutcome(state: ImageRun['state']): state is Outcome {
  return state === 'succeeded' || state === 'failed' || state === 'skipped';
}
