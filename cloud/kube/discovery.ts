import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { listAt, stringAt } from './objects.ts';

/**
 * The first of `wanted` versions of a group in which the cluster serves the resource; undefined where it serves none.
 * Discovery may be read by everyone who is logged in.
 * @throws KubeError
 */
export async function findVersion(
  client: KubeApi,
  group: string,
  wanted: readonly string[],
  plural: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const found = await unless404(client.json('GET', { path: `/apis/${group}`, signal }));
  const served = new Set(listAt(found, 'versions').map((each) => stringAt(each, 'version')));
  for (const version of wanted.filter((each) => served.has(each))) {
    const list = await unless404(client.json('GET', { path: `/apis/${group}/${version}`, signal }));
    if (listAt(list, 'resources').some((each) => stringAt(each, 'name') === plural)) return version;
  }
  return undefined;
}

async function unless404(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    if (isKubeError(error, 404)) return undefined;
    throw error;
  }
}
