import path from 'node:path';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { JsonFile } from './json-file.ts';

const schema = z.object({ epoch: z.number().int().nonnegative() });

/**
 * The epoch of this start: over that of every earlier start, durable before it is used. It is not below the wall clock's
 * seconds, so that a hub whose data was lost is still believed by agents that remember the hub before.
 * @param floor not below this either: what another hub had
 */
export async function nextEpoch(directory: string, clock: Clock, floor = 0): Promise<number> {
  const file = new JsonFile(path.join(directory, 'epoch.json'), schema);
  const before = (await file.read())?.epoch ?? 0;
  const epoch = Math.max(before + 1, floor, Math.floor(clock.now() / 1000));
  await file.write({ epoch });
  return epoch;
}
