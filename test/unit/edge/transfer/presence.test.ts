import { describe, expect, it } from 'vitest';
import type { JoinRequest } from '../../../../edge/peers/types.ts';
import { Presence } from '../../../../edge/transfer/presence.ts';
import { SwarmView } from '../../../../edge/transfer/swarm-view.ts';
import { Bitmap } from '../../../../shared/bitmap.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { SimStore } from '../../../sim/sim-store.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const KEY = digestOf(Buffer.from('blob'));
const SELF = parseNodeName('self');
const A = parseNodeName('node-a');
const SIZE = 5_000_000;

function make(init: { passing?: boolean; takesRanges?: boolean } = {}) {
  const stored = new SimStore().open(KEY, SIZE);
  const { layout } = stored;
  const view = new SwarmView({
    self: SELF,
    key: KEY,
    pieceCount: layout.pieceCount,
    liveness: { version: 0, isLive: () => true },
    gateways: new Set(),
    weight: 1,
  });
  const joined: string[] = [];
  const presence = new Presence(
    { clock: new ManualClock() },
    {
      stored,
      view,
      target: { registry: 'reg.example', repository: 'app', digest: KEY, layout },
      flights: { claimed: () => [1] },
      ranges: { takesRanges: () => init.takesRanges },
      weight: 3,
      ranked: () => true,
      passing: init.passing === true,
      onJoined: (node) => joined.push(node),
    },
  );
  const request: JoinRequest = {
    key: KEY,
    size: SIZE,
    pieceSize: layout.pieceSize,
    registry: 'reg.example',
    repository: 'app',
    ranked: true,
    weight: 1,
    have: new Bitmap(layout.pieceCount, new Uint8Array(Math.ceil(layout.pieceCount / 8)).fill(1)).toBytes(),
    claimed: [],
  };
  return { stored, view, presence, joined, request };
}

describe('a node among those on a blob', () => {
  it('learns of who announces itself, and answers with what it has and does', () => {
    const { view, presence, joined, request } = make({ takesRanges: true });
    expect(presence.joinedBy(A, { ...request, others: true })).toMatchObject({
      onBlob: true,
      weight: 3,
      whole: false,
      claimed: [1],
      others: [{ node: A, weight: 1 }],
      origin: 'ranges',
    });
    expect(view.holder(0, new Set())).toBe(A);
    expect(joined).toEqual([A]);
  });

  it('says of the origin what it does there, before what it knows', () => {
    const { view, presence } = make({ takesRanges: true });
    expect(presence.origin()).toBe('ranges');
    view.setOneOwner();
    expect(presence.origin()).toBe('whole');
    view.setOwnWord('reads');
    expect(presence.origin()).toBe('reads');
    expect(make().presence.origin()).toBeUndefined();
  });

  it('has nothing for others of what only passes by', () => {
    const { stored, presence } = make({ passing: true });
    stored.have.set(0);
    expect(presence.claimed()).toEqual([]);
    expect(Buffer.from(presence.have()).every((byte) => byte === 0)).toBe(true);
    const kept = make();
    kept.stored.have.set(0);
    expect(kept.presence.have()[0]).toBe(1);
  });

  it('takes no announcement of a blob that is cut otherwise', () => {
    const { view, presence, request } = make();
    presence.announcedEarlier(A, { ...request, size: SIZE + 1 }, 0);
    expect(view.knows(A)).toBe(false);
    presence.announcedEarlier(A, request, 0);
    expect(view.knows(A)).toBe(true);
  });
});
