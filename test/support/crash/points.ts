import { Disk, type End, type LeftBehind } from './disk.ts';
import type { Fact, Step } from './steps.ts';

/** One way to end, at one step. */
export interface CrashPoint {
  /** How to name it to somebody who wants to see it again. */
  readonly name: string;
  /** The same for all that end at such a step in such a way. */
  readonly kind: string;
  readonly end: End['kind'];
  readonly left: LeftBehind;
  /** What was told before, in order; those up to `durable` stand on synced commits. */
  readonly facts: readonly Fact[];
  readonly durableFacts: number;
}

/** All distinct states that the disk can be in when the agent ends at one of its steps. */
export function* crashPoints(steps: readonly Step[], seed: number): Generator<CrashPoint> {
  const disk = new Disk();
  const seen = new Set<string>();
  const facts: Fact[] = [];
  let durableFacts = 0;
  const began = steps.findIndex((step) => step.do === 'began');
  for (const [n, step] of steps.entries()) {
    const before = disk.frames.written;
    disk.take(step);
    // One is as the next, and there are 256.
    if (n < began || (step.do === 'directory' && n % 16 !== 0)) continue;
    if (step.do === 'fact') facts.push(step.fact);
    if (step.do === 'database-synced') durableFacts = facts.length;
    for (const [way, end] of endsOf(step, disk, before, numbers(seed + n)).entries()) {
      const left = disk.leave(end);
      // What was told since is not in the bytes, and makes the same bytes another case.
      const id = `${left.id} ${facts.length} ${durableFacts} ${end.kind}`;
      if (seen.has(id)) continue;
      seen.add(id);
      const name = `seed ${seed}, step ${n} of ${steps.length} (${named(step)}), way ${way}: ${describe(end)}`;
      const kind = `${kindOf(step)}: ${describe(end).replace(/\d+ frames/, 'frames')}`;
      yield { name, kind, end: end.kind, left, facts: [...facts], durableFacts };
    }
  }
}

/** Every `nth`, and the first of every kind. */
export function* partOf(points: Iterable<CrashPoint>, nth: number): Generator<CrashPoint> {
  const seen = new Set<string>();
  let n = 0;
  for (const point of points) {
    if (n++ % nth === 0 || !seen.has(point.kind)) yield point;
    seen.add(point.kind);
  }
}

function endsOf(step: Step, disk: Disk, before: number, random: () => number): End[] {
  const { synced, written } = disk.frames;
  const power = (frames: number, torn: boolean, chance?: () => number): End => ({
    kind: 'power',
    frames,
    torn,
    random: chance,
  });
  // What was told changes no byte, and one directory is as the next.
  if (step.do === 'fact' || step.do === 'directory')
    return [{ kind: 'killed', half: false }, power(synced, false)];
  const anywhere = (): number => synced + Math.floor(random() * (written - synced + 1));
  const ends: End[] = [
    { kind: 'killed', half: false },
    power(synced, false),
    power(written, false),
    power(anywhere(), false, random),
    power(anywhere(), true, random),
    power(anywhere(), false, random),
  ];
  if (step.do === 'write') ends.push({ kind: 'killed', half: true });
  if (step.do === 'database') {
    for (let frame = Math.max(synced, Math.min(before, written)); frame < written; frame++) {
      ends.push(power(frame, frame % 2 === 1, random));
    }
  }
  return ends;
}

function named(step: Step): string {
  return 'path' in step
    ? `${step.do} ${step.path}`
    : step.do === 'fact'
      ? `told: ${step.fact.kind}`
      : step.do;
}

/** One blob is as the next. */
function kindOf(step: Step): string {
  return named(step).replace(/blobs\/.*/, 'blobs/…');
}

function describe(end: End): string {
  if (end.kind === 'killed') return end.half ? 'killed within the write' : 'killed';
  const files = end.random === undefined ? 'no unsynced byte' : 'some unsynced bytes';
  return `power cut, ${end.frames} frames${end.torn ? ' and a half' : ''}, ${files}`;
}

/** The same numbers in [0, 1) for the same seed. */
function numbers(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
