import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { RegistryHookAnswer } from '../../shared/wire/api.ts';
import type { HookRule } from '../config/hook-settings.ts';
import { COMPLAIN_MS, MAX_TOLD } from './constants.ts';
import type { PushJobs } from './push-jobs.ts';
import { type Ignored, type Push, readPushes } from './pushes.ts';
import { ruleFor } from './rules.ts';
import type { SecretFile } from './secret-file.ts';

export interface RegistryHookComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined where none is set: nobody is let in then. */
  readonly secret: Pick<SecretFile, 'fits'> | undefined;
  readonly jobs: Pick<PushJobs, 'take'>;
}

/** Takes what registries say of pushes, and has pools fetch what the rules name. */
export class RegistryHook {
  readonly #c: RegistryHookComponents;
  readonly #rules: readonly HookRule[];
  #untold = 0;
  #complainedAt = Number.NEGATIVE_INFINITY;

  constructor(components: RegistryHookComponents, init: { readonly rules: readonly HookRule[] }) {
    this.#c = components;
    this.#rules = init.rules;
  }

  /**
   * @param from whose request it is, for the log
   * @throws TidepoolError DENIED where no secret is set, UNAUTHORIZED for another one
   */
  async authorize(header: string | undefined, from: string): Promise<void> {
    try {
      if (this.#c.secret === undefined) {
        throw new TidepoolError(
          'DENIED',
          'no push is taken: set hooks.registry.secretFile in the hub settings, and have the registry send what is in it as its Authorization header',
        );
      }
      if (await this.#c.secret.fits(header)) return;
      throw new TidepoolError(
        'UNAUTHORIZED',
        header === undefined
          ? 'no push is taken without the secret of hooks.registry.secretFile as Authorization header'
          : 'the Authorization header is not the secret of hooks.registry.secretFile',
      );
    } catch (error) {
      this.#complain(from, error);
      throw error;
    }
  }

  /** @throws TidepoolError INVALID_ARGUMENT for a body that is no notification */
  async take(body: unknown, from: string): Promise<RegistryHookAnswer> {
    const { pushes, ignored } = readPushes(body);
    const jobs: RegistryHookAnswer['jobs'][number][] = [];
    const left: Ignored[] = [...ignored];
    for (const push of pushes) {
      const result = await this.#push(push);
      if ('reason' in result) left.push(result);
      else jobs.push(result);
    }
    this.#c.log.info(
      { audit: 'registry hook', from, jobs: jobs.slice(0, MAX_TOLD), ignored: left.slice(0, MAX_TOLD) },
      'pushes of a registry',
    );
    return { jobs, ignored: left.slice(0, MAX_TOLD) };
  }

  async #push(push: Push): Promise<RegistryHookAnswer['jobs'][number] | Ignored> {
    const what = quote(`push ${push.repository}:${push.tag}@${push.digest}`, 200);
    const rule = ruleFor(this.#rules, push);
    if (rule === undefined) return { what, reason: 'no rule of hooks.registry.rules fits it' };
    const host = rule.registry ?? push.host;
    if (host === undefined) {
      return { what, reason: 'the registry does not say its name; set `registry` in the rule' };
    }
    const image = `${host}/${push.repository}:${push.tag}`;
    try {
      parseImageRef(image);
    } catch (error) {
      return { what, reason: describeError(error) };
    }
    const { id, verdict } = await this.#c.jobs.take(image, {
      digest: push.digest,
      pools: rule.pools,
      pushedAt: push.at ?? this.#c.clock.now(),
    });
    if (verdict === 'known') return { what, reason: `known already, as prefetch ${id}` };
    if (verdict === 'older') return { what, reason: `older than what prefetch ${id} fetches` };
    return { id, image, digest: push.digest };
  }

  /** Somebody who tries secrets must not fill the disk with it. */
  #complain(from: string, error: unknown): void {
    const now = this.#c.clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) {
      this.#untold++;
      return;
    }
    const facts = { audit: 'registry hook', from, reason: describeError(error), andOthers: this.#untold };
    this.#c.log.warn(facts, 'pushes refused');
    this.#complainedAt = now;
    this.#untold = 0;
  }
}
