import { isTidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import type { TagRecord } from '../index/types.ts';

/** Records dated further ahead of our clock than this are ignored: nobody can know an answer of the future. */
const FUTURE_MS = 5 * 60_000;

/** The date of a record that no registry has given: an image was brought into a runtime under that name. Before every answer of a registry. */
export const LOADED_AT = 0;

/** What the hub says that a tag stands for. */
export interface TagPin {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest: Digest;
}

/** A record, and the member that states it: by the certificate of its connection where there are any. */
export interface StatedRecord {
  readonly node: string;
  readonly record: TagRecord;
}

/** What may be served for a tag, and whose word that is. */
export interface Candidate {
  readonly digest: Digest;
  readonly by: 'hub' | 'own' | 'members';
  /** When the origin was asked, Unix ms; undefined for what no origin has said: the hub's own word, or an image that was loaded. */
  readonly originAt: number | undefined;
}

/**
 * How many members have to state the same of a tag, where nobody has tuned it: with a hub and a certificate a node that has
 * no record of its own is not to be talked into one by a single member.
 */
export function quorumOf(
  tuned: number | undefined,
  situation: { readonly hub: boolean; readonly identity: boolean },
): number {
  return tuned ?? (situation.hub && situation.identity ? 2 : 1);
}

/** What the jobs in force say of tags; one that is suspended says nothing. */
export function pinsOf(jobs: readonly PrefetchMessage[]): TagPin[] {
  return jobs
    .filter((job) => !job.suspend)
    .flatMap((job) => job.images)
    .flatMap(({ image, digest }): TagPin[] => {
      const ref = readable(image);
      const pinned = digest ?? ref?.digest;
      if (ref?.tag === undefined || pinned === undefined) return [];
      return [{ registry: ref.registry, repository: ref.repository, tag: ref.tag, digest: pinned }];
    });
}

/** A name that the prefetch itself reports as none. */
function readable(image: string): ReturnType<typeof parseImageRef> | undefined {
  try {
    return parseImageRef(image);
  } catch (error) {
    if (isTidepoolError(error)) return undefined;
    throw error;
  }
}

/**
 * What may be served for a tag while the origin is out of reach, best first: the hub's word, this node's own records, newest
 * first, then what `quorum` members state alike; after all that registries have said, what was loaded. What members state is
 * dated by the `quorum`-th newest of their dates, so that fewer than that can neither make a record nor make an old one newer.
 */
export function pickRecord(known: {
  readonly pins: readonly Digest[];
  readonly own: readonly TagRecord[];
  readonly others: readonly StatedRecord[];
  readonly quorum: number;
  readonly now: number;
}): Candidate[] {
  const dated = (record: TagRecord): boolean => record.originAt <= known.now + FUTURE_MS;
  const newestFirst = (a: { originAt: number }, b: { originAt: number }): number => b.originAt - a.originAt;
  const records = known.own.filter(dated).sort(newestFirst);
  const own = records.filter(({ originAt }) => originAt !== LOADED_AT);
  const loaded = records.filter(({ originAt }) => originAt === LOADED_AT);
  const agreed = [...statements(known.others.filter(({ record }) => dated(record)))]
    .flatMap(([digest, nodes]) => {
      const originAt = [...nodes.values()].sort((a, b) => b - a)[known.quorum - 1];
      return originAt === undefined ? [] : [{ digest, originAt }];
    })
    .sort(newestFirst);
  const candidates: Candidate[] = [
    ...known.pins.map((digest): Candidate => {
      const originAt = own.find((record) => record.digest === digest)?.originAt;
      return { digest, by: 'hub', originAt };
    }),
    ...own.map(({ digest, originAt }): Candidate => ({ digest, by: 'own', originAt })),
    ...agreed.filter(({ originAt }) => originAt !== LOADED_AT).map(said),
    ...loaded.map(({ digest }): Candidate => ({ digest, by: 'own', originAt: undefined })),
    ...agreed.filter(({ originAt }) => originAt === LOADED_AT).map(said),
  ];
  const seen = new Set<string>();
  return candidates.filter(({ digest }) => {
    if (seen.has(digest)) return false;
    seen.add(digest);
    return true;
  });
}

function said({ digest, originAt }: { digest: Digest; originAt: number }): Candidate {
  return { digest, by: 'members', originAt: originAt === LOADED_AT ? undefined : originAt };
}

/** Who states which digest, each member once, with the newest of its dates. */
export function statements(others: readonly StatedRecord[]): Map<Digest, Map<string, number>> {
  const byDigest = new Map<Digest, Map<string, number>>();
  for (const { node, record } of others) {
    const nodes = byDigest.get(record.digest) ?? new Map<string, number>();
    nodes.set(node, Math.max(record.originAt, nodes.get(node) ?? 0));
    byDigest.set(record.digest, nodes);
  }
  return byDigest;
}

/** Named in a refusal, of each: a member may state much. */
const MAX_NAMED = 3;

/** Why no record was served, for people: who states what, and the setting that decides. */
export function whyNone(
  others: readonly StatedRecord[],
  quorum: number,
  tried: readonly Candidate[],
): string {
  const stated = [...statements(others)].sort(([, a], [, b]) => b.size - a.size);
  const said = stated.slice(0, MAX_NAMED).map(([digest, nodes]) => {
    const names = [...nodes.keys()].slice(0, MAX_NAMED).join(', ');
    return `${nodes.size === 1 ? '1 member states' : `${nodes.size} members state`} ${digest} (${names}${nodes.size > MAX_NAMED ? ', …' : ''})`;
  });
  const parts = [
    ...(said.length === 0 ? ['no member that can be reached has a record of it'] : said),
    ...(stated.length > MAX_NAMED ? [`${stated.length - MAX_NAMED} more digests are stated`] : []),
    ...(tried.length === 0 && stated.length > 0
      ? [
          `${quorum} members have to state the same, which the setting tags.quorum decides, or the hub has to name the digest in a prefetch`,
        ]
      : []),
    ...tried
      .slice(0, MAX_NAMED)
      .map(({ digest }) => `${digest} is not whole among the members that can be reached`),
  ];
  return parts.join('; ');
}
