import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import type { DesiredPrefetch } from '../desired/types.ts';

/** Jobs that are gone and still remembered, so that one of the same name that comes again is a new one. */
const MAX_GONE = 1_000;

export const generationTable = z.record(
  z.string(),
  z.object({
    generation: z.number().int().nonnegative(),
    /** What the job fetches, as text; undefined once the job is gone. */
    content: z.string().optional(),
  }),
);
export type GenerationTable = z.infer<typeof generationTable>;

/**
 * Numbers the jobs: a job whose images change gets a higher number and runs again everywhere; a change of its nodes or
 * its limits does not make those run again that are through. Numbers start from the wall clock's seconds, so that they
 * grow even when the table was lost.
 */
export function numberJobs(
  before: GenerationTable,
  jobs: readonly (Pick<DesiredPrefetch, 'id' | 'images' | 'uid'> & { readonly run?: number })[],
  clock: Clock,
): GenerationTable {
  const after: Record<string, GenerationTable[string]> = {};
  for (const { id, images, uid, run } of jobs) {
    const known = Object.hasOwn(before, id) ? before[id] : undefined;
    // Another object of the same name, and each run of a schedule, is another job.
    const more = uid === undefined && run === undefined ? '' : ` ${uid ?? ''} ${run ?? ''}`;
    const content = JSON.stringify(images) + more;
    after[id] =
      known !== undefined && known.content === content
        ? known
        : { generation: Math.max((known?.generation ?? 0) + 1, Math.floor(clock.now() / 1000)), content };
  }
  const gone = Object.entries(before)
    .filter(([id]) => !Object.hasOwn(after, id))
    .sort(([, a], [, b]) => b.generation - a.generation)
    .slice(0, MAX_GONE);
  for (const [id, { generation }] of gone) after[id] = { generation };
  return after;
}
