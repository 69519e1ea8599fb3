import { createHash } from 'node:crypto';

/** A member as the ranking sees it. */
export interface Ranked {
  readonly node: string;
  /** Share of the work, relative to the others; 0 or less never ranks. */
  readonly weight: number;
}

/**
 * Orders members for one item by weighted rendezvous hashing: the first is the owner, the rest its successors.
 * Every member computes the same order from the same set, and one that leaves moves only its own items.
 * Score: -weight / ln(u), u the item-and-node hash in (0, 1) (logarithmic method, Schindelhauer and Schomaker 2005).
 */
export function rank<M extends Ranked>(members: Iterable<M>, item: string): M[] {
  const scored: { member: M; score: number }[] = [];
  for (const member of members) {
    if (member.weight > 0) scored.push({ member, score: score(member, item) });
  }
  // Names break ties, so that equal scores cannot differ between members.
  scored.sort((a, b) => b.score - a.score || (a.member.node < b.member.node ? -1 : 1));
  return scored.map((entry) => entry.member);
}

/** The first of {@link rank}, or undefined when nobody ranks. */
export function first<M extends Ranked>(members: Iterable<M>, item: string): M | undefined {
  return rank(members, item)[0];
}

function score(member: Ranked, item: string): number {
  const hash = createHash('sha256').update(member.node).update('\0').update(item).digest();
  // 48 bits and a half step: never 0, never 1.
  const u = (hash.readUIntBE(0, 6) + 0.5) / 2 ** 48;
  return -member.weight / Math.log(u);
}
