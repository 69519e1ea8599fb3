import { createHash } from 'node:crypto';
import * as z from 'zod';
import { digest, poolName } from '../../shared/wire/messages/fields.ts';
import type { HookRule } from '../config/hook-settings.ts';

/** One tag's last push. */
const entry = z.object({
  image: z.string(),
  digest,
  pools: z.array(poolName),
  pushedAt: z.number(),
  /** Known, and its job is still to be made. */
  pending: z.boolean(),
});
export const savedPushes = z.record(z.string(), entry);
export type PushEntry = z.infer<typeof entry>;
export type SavedPushes = z.infer<typeof savedPushes>;

/** What one push does to what is known of its tag. */
export function verdictOf(
  known: PushEntry | undefined,
  push: Pick<PushEntry, 'digest' | 'pools' | 'pushedAt'>,
): 'new' | 'known' | 'older' {
  if (known === undefined) return 'new';
  if (known.digest === push.digest && sameNames(known.pools, push.pools)) return 'known';
  // Notifications overtake each other when the registry has to send them again.
  return push.pushedAt < known.pushedAt ? 'older' : 'new';
}

/** The same tag is the same job, whatever is pushed to it. */
export function pushId(image: string): string {
  const hash = createHash('sha256').update(image).digest('hex').slice(0, 10);
  const stem = image
    .slice(image.indexOf('/') + 1)
    .toLowerCase()
    .replaceAll(/[^a-z0-9.]+/g, '-')
    .slice(0, 150)
    .replaceAll(/^[-.]+|[-.]+$/g, '');
  return `push-${stem === '' ? '' : `${stem}-`}${hash}`;
}

function sameNames(a: HookRule['pools'], b: HookRule['pools']): boolean {
  return JSON.stringify([...a].sort()) === JSON.stringify([...b].sort());
}
