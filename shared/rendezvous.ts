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
  return -member.weight / Math.log(unit(`${member.node}\0${item}`));
}

/**
 * Text to a number in (0, 1): two multiplicative 32-bit hashes side by side, each finished by murmur3's mixer. It has to be
 * even and quick (a swarm of 100 ranks 100 names a piece), not hard to invert.
 */
function unit(text: string): number {
  let low = 0x811c9dc5;
  let high = 0x9747b28c;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x5bd1e995);
  }
  const bits = mix(low) * 2 ** 20 + (mix(high ^ low) >>> 12);
  return (bits + 0.5) / 2 ** 52;
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
