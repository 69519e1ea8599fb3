import { describeError, isTidepoolError } from '../../../shared/errors.ts';
import { contentOf, type SimContent } from '../byte-store.ts';
import { ORIGIN_SLOTS, type SimNode } from '../world.ts';
import { FIND_MS, PoolUnderFaults } from './pool-under-faults.ts';
import { ALL_OFFLINE, type Fault, type FaultKind, type PullPlan, type Schedule } from './schedule.ts';

const REGISTRY = { registry: 'sim.example', repository: 'app' };
/** After the last fault members find each other again within this. */
const SETTLE_MS = 20_000;
/** After this nothing of a pull is left anywhere: downloads linger for half of it. */
const IDLE_MS = 60_000;
/** What a pull may take beside its bytes: hedges, set at rest by silence, one after the other for each fault. */
const PULL_MS = 30_000;
const PULL_MS_A_FAULT = 20_000;
/** As a runtime does after bytes that it was sent turned out wrong: each of three blobs may have been begun wrong. */
const ATTEMPTS = 4;
/** A read that began while the uplink was down says so this much later. */
const NOTICE_MS = 2_000;

export interface Pulled {
  readonly plan: PullPlan;
  readonly startedAt: number;
  endedAt?: number;
  /** Undefined when it ended right. */
  error?: unknown;
  /** The node went down meanwhile: nobody was there to be answered. */
  void: boolean;
}

export interface Outcome {
  readonly pulls: readonly Pulled[];
  readonly problems: readonly string[];
  /** Copies of the blobs that came over the uplink, of those that were asked for. */
  readonly copies: number;
  readonly allowedCopies: number;
  /** The longest that a pull took, in parts of its bound. */
  readonly slowest: number;
}

/** Runs a schedule to its end and looks whether all that was promised has been kept. */
export async function runSchedule(schedule: Schedule): Promise<Outcome> {
  const pool = new PoolUnderFaults(schedule);
  const { clock } = pool.world;
  const contents = schedule.sizes.map((size, n) => contentOf(n, size));
  const problems: string[] = [];
  const pulls: Pulled[] = [];
  await pool.start();
  for (const plan of schedule.pulls) {
    clock.after(plan.at, () => {
      if (pool.world.node(plan.node).alive) pulls.push(startPull(pool, plan, contents));
    });
  }
  const quietAt = endOf(schedule.faults) + SETTLE_MS;
  await advance(pool, quietAt);
  const bounds = new Map<Pulled, number>();
  for (const pull of pulls) bounds.set(pull, boundOf(schedule, pull.startedAt));
  await advanceUntil(pool, () => pulls.every(isOver), Math.max(quietAt, ...bounds.values()) + 1);
  let slowest = 0;
  for (const pull of pulls) {
    if (pull.void) continue;
    const bound = bounds.get(pull) ?? 0;
    const took = ((pull.endedAt ?? Number.POSITIVE_INFINITY) - pull.startedAt) / (bound - pull.startedAt);
    slowest = Math.max(slowest, took);
    if (took > 1) problems.push(`${nameOf(pull)} is not over after ${Math.round(bound - pull.startedAt)} ms`);
    else if (pull.error !== undefined && !isExcused(pull, schedule.faults)) {
      problems.push(`${nameOf(pull)} fails for no reason in the schedule: ${describeError(pull.error)}`);
    }
  }
  problems.push(...(await pullAfterwards(pool, contents, schedule)));
  problems.push(...agreement(pool));
  await advance(pool, clock.mono() + IDLE_MS);
  problems.push(...storedBytes(pool), ...(await leftovers(pool)));
  const asked = contents.reduce((sum, { size }) => sum + size, 0);
  const copies = pool.world.uplink.bytes / asked;
  const allowedCopies = copiesFor(schedule);
  if (copies > allowedCopies) problems.push(`${copies.toFixed(2)} copies over the uplink`);
  await pool.stop();
  return { pulls, problems, copies, allowedCopies, slowest };
}

function startPull(pool: PoolUnderFaults, plan: PullPlan, contents: readonly SimContent[]): Pulled {
  const { clock } = pool.world;
  const life = pool.life(plan.node);
  const node = pool.world.node(plan.node);
  const pulled: Pulled = { plan, startedAt: clock.mono(), void: false };
  const end = (error?: unknown): void => {
    pulled.endedAt ??= clock.mono();
    pulled.error = error;
    pulled.void ||= !node.alive || pool.life(plan.node) !== life;
  };
  const wanted = plan.blobs.flatMap((blob) => contents[blob] ?? []);
  Promise.all(wanted.map((content) => take(node, content, plan.how))).then(
    () => end(),
    (error: unknown) => end(error),
  );
  const watch = (): void => {
    if (pulled.endedAt !== undefined) return;
    if (node.alive) clock.after(500, watch);
    else {
      pulled.void = true;
      pulled.endedAt = clock.mono();
    }
  };
  watch();
  return pulled;
}

/** Takes one blob as a runtime, a reader of ranges or a prefetch does. @throws Error when wrong bytes are handed out */
async function take(node: SimNode, content: SimContent, how: PullPlan['how']): Promise<void> {
  const { digest, size } = content;
  node.sizes.set(digest, size);
  const request = { ...REGISTRY, digest };
  if (how === 'prefetch') {
    await node.content.fill(request);
    return;
  }
  const [start, end] = how === 'whole' ? [0, size] : [Math.floor(size / 3), Math.floor(size / 2)];
  const view = await node.content.blob(request);
  let position = start;
  let wrong: number | undefined;
  for await (const lease of view.read({ start, end, mode: how })) {
    if (!sameAs(content, position, lease.bytes)) wrong ??= position;
    position += lease.bytes.length;
    lease.release();
  }
  if (position !== end) throw new Error(`${node.name} was given ${position - start} of ${end - start} bytes`);
  // A range may be wrong where its blob has not been verified; a runtime that reads ranges checks them itself.
  if (wrong !== undefined && how === 'whole')
    throw new Error(`${node.name} was given wrong bytes at ${wrong} of ${digest} as if right`);
}

function sameAs(content: SimContent, position: number, bytes: Uint8Array): boolean {
  const pieceSize = content.pieces[0]?.length ?? 1;
  const right = content.pieces[Math.floor(position / pieceSize)];
  const from = position % pieceSize;
  return right !== undefined && Buffer.compare(bytes, right.subarray(from, from + bytes.length)) === 0;
}

/** With everything mended, every node gets everything. */
async function pullAfterwards(
  pool: PoolUnderFaults,
  contents: readonly SimContent[],
  schedule: Schedule,
): Promise<string[]> {
  const { clock } = pool.world;
  const problems: string[] = [];
  const startedAt = clock.mono();
  let left = pool.alive.length;
  for (const node of pool.alive) {
    void pullWithRetries(node, contents)
      .catch((error: unknown) => {
        problems.push(`afterwards ${node.name} cannot pull: ${describeError(error)}`);
      })
      .finally(() => left--);
  }
  await advanceUntil(
    pool,
    () => left === 0,
    startedAt + ATTEMPTS * (boundOf(schedule, startedAt) - startedAt),
  );
  if (left > 0) problems.push(`afterwards ${left} pulls do not end`);
  return problems;
}

async function pullWithRetries(node: SimNode, contents: readonly SimContent[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await Promise.all(contents.map((content) => take(node, content, 'whole')));
      return;
    } catch (error) {
      if (attempt === ATTEMPTS || !isTidepoolError(error, 'DIGEST_MISMATCH')) throw error;
    }
  }
}

/** Who is there knows all the others that are. */
function agreement(pool: PoolUnderFaults): string[] {
  const names = pool.alive.map(({ name }) => name);
  return pool.alive.flatMap((node) => {
    const live = node.members.view().filter((member) => member.live);
    const unknown = names.filter((name) => name !== node.name && !live.some((other) => other.node === name));
    return unknown.map((name) => `${node.name} does not find ${name}`);
  });
}

function storedBytes(pool: PoolUnderFaults): string[] {
  return pool.alive.flatMap((node) => {
    const store = pool.store(node.index);
    const partial = [...store.blobs.values()].filter(({ whole }) => !whole);
    return [
      ...store.wrongPieces().map((piece) => `${node.name} keeps wrong bytes of ${piece}`),
      ...partial.map(({ key }) => `${node.name} has not verified ${key}`),
    ];
  });
}

/** Nothing of a pull outlives it for ever: downloads, slots to the origin, buffers, questions. */
async function leftovers(pool: PoolUnderFaults): Promise<string[]> {
  const problems: string[] = [];
  for (const node of pool.alive) {
    if (node.swarms.active().length > 0) problems.push(`${node.name} still downloads`);
    const { lent } = pool.store(node.index);
    if (lent !== 0) problems.push(`${node.name} has ${lent} buffers lent out`);
    const free = new AbortController();
    let slots = 0;
    for (let i = 0; i < ORIGIN_SLOTS; i++) {
      void node.gate.slot(0, free.signal).then(
        () => slots++,
        () => undefined,
      );
    }
    await new Promise((resolve) => setImmediate(resolve));
    free.abort();
    if (slots < ORIGIN_SLOTS) problems.push(`${node.name} has ${slots} slots to the origin left`);
  }
  if (pool.world.questions > 0) problems.push(`${pool.world.questions} questions have no answer`);
  return problems;
}

const ORIGIN_FAULTS: readonly FaultKind[] = [
  'uplink cut',
  'uplink flaps',
  'origin errors',
  'thin uplink',
  ALL_OFFLINE,
];
const LIES: readonly FaultKind[] = ['lies', 'bad memory'];

/** Whether the pull could not but fail so. */
function isExcused(pull: Pulled, faults: readonly Fault[]): boolean {
  const { error, plan } = pull;
  if (!isTidepoolError(error)) return false;
  const during = faults.filter(
    (fault) => fault.at <= (pull.endedAt ?? 0) && endOf([fault]) + NOTICE_MS >= pull.startedAt,
  );
  if (error.code === 'DIGEST_MISMATCH') return faults.some(({ kind }) => LIES.includes(kind));
  if (error.code === 'STORE_FULL')
    return during.some(({ kind, nodes }) => kind === 'disk full' && nodes.includes(plan.node));
  return during.some(({ kind }) => ORIGIN_FAULTS.includes(kind));
}

/** By when a pull has ended, one way or the other: nobody waits for a member, and for the origin only while it may come. */
function boundOf(schedule: Schedule, startedAt: number): number {
  const { faults, sizes, uplink } = schedule;
  const originBack = endOf(faults.filter(({ kind }) => ORIGIN_FAULTS.includes(kind)));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const wire = ((copiesFor(schedule) * bytes) / uplink) * 1_000;
  return Math.max(startedAt, originBack) + PULL_MS + faults.length * PULL_MS_A_FAULT + wire;
}

/** What each fault may cost: sides that cannot see each other, pieces that went with their reader, reads to find a liar. */
function copiesFor({ faults, nodes }: Schedule): number {
  const cost = (fault: Fault): number => {
    switch (fault.kind) {
      case 'partition':
      case 'restart':
      case 'restart half':
      case ALL_OFFLINE:
      case 'index lost':
      case 'stall':
      case 'join':
      case 'leave':
        return 1;
      case 'disk full':
      case 'lies':
      case 'bad memory':
        return nodes;
      case 'garbage':
        return 0.5;
      // What is under way when the uplink goes, up to 16 pieces, goes on with its owner and with who took that one's place.
      case 'uplink cut':
      case 'uplink flaps':
        return 0.2;
      default:
        return 0.1;
    }
  };
  return 1.05 + faults.reduce((sum, fault) => sum + cost(fault), 0);
}

function endOf(faults: readonly Fault[]): number {
  return Math.max(
    0,
    ...faults.map(({ kind, at, lasts }) => at + lasts + (kind === ALL_OFFLINE ? FIND_MS : 0)),
  );
}

function isOver(pull: Pulled): boolean {
  return pull.endedAt !== undefined;
}

function nameOf({ plan, startedAt }: Pulled): string {
  return `${plan.how} pull of blobs ${plan.blobs.join(', ')} by node-${plan.node} from ${Math.round(startedAt)} ms on`;
}

async function advance(pool: PoolUnderFaults, until: number): Promise<void> {
  let there = false;
  const { clock } = pool.world;
  clock.after(until - clock.mono(), () => {
    there = true;
  });
  await clock.run(() => there, Number.POSITIVE_INFINITY);
}

/** Until it is done, or that time has come. */
async function advanceUntil(pool: PoolUnderFaults, done: () => boolean, until: number): Promise<void> {
  const { clock } = pool.world;
  let late = false;
  clock.after(until - clock.mono(), () => {
    late = true;
  });
  await clock.run(() => late || done(), Number.POSITIVE_INFINITY);
}
