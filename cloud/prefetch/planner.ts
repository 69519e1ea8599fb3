import { TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { PrefetchPlanView, PrefetchRequest } from '../../shared/wire/api.ts';
import { checkedSpec, toPrefetch } from '../desired/prefetch-spec.ts';
import type { Membership } from '../pools/membership.ts';
import type { RegistryReader } from '../registry/types.ts';
import type { JobDesk, NodeLookup } from './job-desk.ts';
import { planJob } from './plan.ts';
import type { SizePlanner } from './size-planner.ts';

export interface PlannerComponents {
  readonly registry: RegistryReader;
  readonly sizes: SizePlanner;
  readonly desk: Pick<JobDesk, 'poolsToFill'>;
  readonly membership: () => Membership;
  readonly lookup: NodeLookup;
}

/** Answers what a prefetch would cost, for one that nobody has written down yet. */
export class Planner {
  readonly #c: PlannerComponents;

  constructor(components: PlannerComponents) {
    this.#c = components;
  }

  /** @throws TidepoolError INVALID_ARGUMENT, NOT_FOUND for a selection of nobody, or what the registry says */
  async plan(
    { images, pools, nodes }: Omit<PrefetchRequest, 'id'>,
    signal: AbortSignal,
  ): Promise<PrefetchPlanView> {
    const spec = checkedSpec({
      images,
      selector: {
        ...(pools === undefined ? {} : { nodePools: pools }),
        ...(nodes === undefined ? {} : { names: nodes }),
      },
    });
    const { targets, problems } = planJob(toPrefetch('plan', spec, 'plan'), {}, this.#c.membership());
    if (problems.length > 0 && ![...targets.values()].some((names) => names.length > 0)) {
      throw new TidepoolError('NOT_FOUND', problems.join('; '));
    }
    const named: { image: string; digest: Digest; platforms: readonly string[] | undefined }[] = [];
    for (const { image, digest, platforms } of spec.images) {
      const ref = parseImageRef(image);
      const pinned = digest ?? ref.digest ?? (await this.#c.registry.digest(ref, undefined, signal));
      named.push({ image, digest: pinned, platforms });
    }
    const fill = this.#c.desk.poolsToFill(targets, this.#c.lookup);
    const answer = await this.#c.sizes.plan(named, fill, async () => undefined, signal);
    return { ...answer, images: named.map(({ image, digest }) => ({ image, digest })) };
  }
}
