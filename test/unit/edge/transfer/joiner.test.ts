import { describe, expect, it } from 'vitest';
import type { JoinAnswer, JoinRequest, Member } from '../../../../edge/peers/types.ts';
import { JOIN_WAIT_MS, NOTED_BLOBS } from '../../../../edge/transfer/constants.ts';
import type { DownloadComponents } from '../../../../edge/transfer/download-components.ts';
import { Joiner } from '../../../../edge/transfer/joiner.ts';
import { TransferStats } from '../../../../edge/transfer/stats.ts';
import { SwarmView } from '../../../../edge/transfer/swarm-view.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { layoutOf } from '../../../../shared/pieces.ts';
import { SimStore } from '../../../sim/sim-store.ts';
import { World } from '../../../sim/world.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const KEY = digestOf(Buffer.from('blob'));
const SIZE = 5_000_000;
const SELF = parseNodeName('self');

/** Its timers are looked at only when the process gets time again: all that is due fires then, late. */
class StarvedClock extends ManualClock {
  readonly #due: { at: number; fn: () => void }[] = [];
  override after(ms: number, fn: () => void): () => void {
    const timer = { at: this.mono() + ms, fn };
    this.#due.push(timer);
    return () => {
      const index = this.#due.indexOf(timer);
      if (index >= 0) this.#due.splice(index, 1);
    };
  }

  wakeAfter(ms: number): void {
    this.advance(ms);
    for (const timer of this.#due.filter(({ at }) => at <= this.mono())) {
      const index = this.#due.indexOf(timer);
      if (index < 0) continue;
      this.#due.splice(index, 1);
      timer.fn();
    }
  }
}

function joining(names: readonly string[]) {
  const clock = new StarvedClock();
  const members: Member[] = names.map((name) => ({ node: parseNodeName(name), address: `${name}:1` }));
  const view = new SwarmView({
    self: SELF,
    key: KEY,
    pieceCount: layoutOf(SIZE).pieceCount,
    liveness: { version: 0, isLive: () => true },
    gateways: new Set(),
    weight: 1,
  });
  const asked: { node: string; request: JoinRequest; answer: (said?: Partial<JoinAnswer>) => void }[] = [];
  const client = {
    join: (member: Member, request: JoinRequest, signal: AbortSignal) =>
      new Promise<JoinAnswer>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        const nothing = { onBlob: false, weight: 1, whole: false, have: request.have, claimed: [] };
        asked.push({
          node: member.node,
          request,
          answer: (said = {}) => resolve({ ...nothing, ...said }),
        });
      }),
  };
  const components = {
    clock,
    client,
    members: { live: () => members, get: (node: string) => members.find((member) => member.node === node) },
    stats: new TransferStats(),
  };
  const joiner = new Joiner(components as unknown as DownloadComponents, {
    key: KEY,
    stored: new SimStore().open(KEY, SIZE),
    view,
    target: { registry: 'reg.example', repository: 'app', digest: KEY, layout: layoutOf(SIZE) },
    weight: 1,
    closing: new AbortController().signal,
    ranked: () => true,
    have: () => new Uint8Array(Math.ceil(layoutOf(SIZE).pieceCount / 8)),
    claimed: () => [],
    origin: () => undefined,
  });
  let done = false;
  void joiner.first().then(() => {
    done = true;
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return { clock, view, asked, turn, done: () => done };
}

describe('a node that joins a swarm', () => {
  it('starts as soon as all have answered', async () => {
    const { asked, turn, done } = joining(['a', 'b']);
    for (const { answer } of asked) answer();
    await turn();
    expect(done()).toBe(true);
    expect(asked.map(({ request }) => request.others)).toEqual([undefined, undefined]);
  });

  it('that wakes up late reads the answers that lie in its sockets before it starts', async () => {
    const { clock, view, asked, turn, done } = joining(['a', 'b']);
    // Timers run before sockets: at its waking both the wait and the time-out of each question are over.
    clock.wakeAfter(9 * JOIN_WAIT_MS);
    await turn();
    expect(done()).toBe(false);
    for (const { answer } of asked) answer({ onBlob: true });
    await turn();
    expect(done()).toBe(true);
    view.setSelfRanked(true);
    expect(view.owners).toBe(3);
    expect(asked).toHaveLength(2);
  });

  it('asks those that answered for those that did not, and waits for the silent no longer', async () => {
    const { clock, view, asked, turn, done } = joining(['a', 'b', 'c']);
    asked[0]?.answer();
    asked[1]?.answer();
    await turn();
    clock.wakeAfter(JOIN_WAIT_MS);
    await turn();
    expect(asked.slice(3).map(({ node, request }) => [node, request.others])).toEqual([
      ['a', true],
      ['b', true],
    ]);
    expect(done()).toBe(false);
    const others = [
      { node: parseNodeName('c'), weight: 1 },
      { node: SELF, weight: 1 },
    ];
    asked[3]?.answer({ onBlob: true, others });
    asked[4]?.answer();
    await turn();
    expect(done()).toBe(true);
    view.setSelfRanked(true);
    expect(new Set(view.rankedNodes())).toEqual(new Set(['a', 'c']));
    // It has still to be asked what it has.
    expect(view.knows(parseNodeName('c'))).toBe(false);
    // What it says itself weighs more than what others say of it.
    view.learn(
      parseNodeName('c'),
      { ranked: false, weight: 1, whole: false, have: new Uint8Array(3), claimed: [] },
      'answer',
      0,
    );
    expect(view.rankedNodes()).toEqual(['a']);
  });
});

describe('a node that does not want a blob', () => {
  function request(n: number, ranked = true): JoinRequest {
    return {
      key: digestOf(Buffer.from(`blob ${n}`)),
      size: SIZE,
      pieceSize: layoutOf(SIZE).pieceSize,
      registry: 'sim.example',
      repository: 'app',
      ranked,
      weight: 1,
      have: new Uint8Array(3),
      claimed: [],
    };
  }

  it('remembers who announced itself, for when it wants it a moment later, and tells others', async () => {
    const world = new World({ seed: 1, nodes: 3, uplink: 1e6, lan: 1e7 });
    const { service, swarms } = world.node(0);
    const other = world.node(1).name;
    service.join(other, request(1));
    service.join(world.node(2).name, request(1, false));
    const answer = await service.join(world.node(2).name, { ...request(1, false), others: true });
    expect(answer.others).toEqual([{ node: other, weight: 1 }]);
    const name = { registry: 'sim.example', repository: 'app', key: request(1).key, size: SIZE };
    expect(swarms.open(name).view.rankedNodes()).toEqual([other]);
    expect(swarms.noted(name.key)).toEqual([]);
  });

  it('forgets those that left, and the oldest blobs', () => {
    const world = new World({ seed: 1, nodes: 3, uplink: 1e6, lan: 1e7 });
    const { service, swarms } = world.node(0);
    const other = world.node(1).name;
    for (let n = 0; n <= NOTED_BLOBS; n++) service.join(other, request(n));
    expect(swarms.noted(request(0).key)).toEqual([]);
    expect(swarms.noted(request(1).key)).toHaveLength(1);
    service.leave(other, request(1).key);
    expect(swarms.noted(request(1).key)).toEqual([]);
  });
});
