import { expect, it } from 'vitest';
import { PinKeeper } from '../../../../../edge/runtime/containerd/pin-keeper.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

function keeping() {
  const documents = new Map<string, unknown>();
  const there = new Set<string>();
  const calls: string[] = [];
  const scene = { wanted: [] as string[], fails: false };
  const change = (what: string) => async (name: string) => {
    if (scene.fails) throw new Error('no runtime');
    calls.push(`${what} ${name}`);
    return there.has(name);
  };
  const make = (): PinKeeper =>
    new PinKeeper({
      pins: { pin: change('pin'), unpin: change('unpin') },
      kept: { get: (name) => documents.get(name), put: (name, value) => documents.set(name, value) },
      wanted: () => scene.wanted,
      clock: new ManualClock(),
      log: silentLogger(),
      random: () => 0.5,
    });
  return { scene, there, calls, make };
}

it('pins what a job wants once it is there, and unpins it when the job is gone', async () => {
  const { scene, there, calls, make } = keeping();
  const keeper = make();
  scene.wanted = ['reg.example/app:1'];
  await keeper.look();
  there.add('reg.example/app:1');
  await keeper.look();
  await keeper.look();
  // Tried until the runtime has it, then no more.
  expect(calls).toEqual(['pin reg.example/app:1', 'pin reg.example/app:1']);
  scene.wanted = [];
  await keeper.look();
  await keeper.look();
  expect(calls.slice(2)).toEqual(['unpin reg.example/app:1']);
});

it('sets a pin anew that an image may have lost with its removal', async () => {
  const { scene, there, calls, make } = keeping();
  const keeper = make();
  there.add('reg.example/app:1');
  scene.wanted = ['reg.example/app:1'];
  for (let look = 0; look < 20; look++) await keeper.look();
  expect(calls.length).toBeGreaterThanOrEqual(2);
  expect(calls.length).toBeLessThanOrEqual(4);
});

it('remembers over a restart what it has pinned, and touches no pin of others', async () => {
  const { scene, there, calls, make } = keeping();
  there.add('reg.example/app:1').add('reg.example/pause:3');
  scene.wanted = ['reg.example/app:1'];
  await make().look();
  scene.wanted = [];
  await make().look();
  expect(calls).toEqual(['pin reg.example/app:1', 'unpin reg.example/app:1']);
});

it('forgets nothing while the runtime does not answer', async () => {
  const { scene, there, calls, make } = keeping();
  there.add('reg.example/app:1');
  scene.wanted = ['reg.example/app:1'];
  await make().look();
  scene.wanted = [];
  scene.fails = true;
  await make().look();
  scene.fails = false;
  await make().look();
  expect(calls).toEqual(['pin reg.example/app:1', 'unpin reg.example/app:1']);
});
