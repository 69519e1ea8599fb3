import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentConnection } from '../../../../../edge/runtime/containerd/content-connection.ts';
import {
  type ContentImage,
  ContentImages,
  type Sources,
} from '../../../../../edge/runtime/containerd/content-images.ts';
import { ImagePins } from '../../../../../edge/runtime/containerd/image-pins.ts';
import { digestOf } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ContainerdDouble } from '../../../../support/containerd-double.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

const MANIFEST = {
  digest: digestOf(Buffer.from('m')),
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
};
const NAME = 'registry.example/team/app:v1';
const connect = async (socket: string) => new ContentConnection(socket);

let containerd: ContainerdDouble;
let told: (readonly ContentImage[])[];
let sources: Sources | undefined;
let images: ContentImages;
let clock: ManualClock;

beforeEach(async () => {
  containerd = new ContainerdDouble();
  await containerd.start();
  told = [];
  sources = undefined;
  clock = new ManualClock();
  images = make(containerd.socket);
});
afterEach(async () => {
  await images.stop();
  await containerd.stop();
});

function make(socket: string): ContentImages {
  return new ContentImages(
    {
      clock,
      log: silentLogger(),
      connect,
      onImages: async (list, ask) => {
        told.push(list);
        const [first] = list;
        if (first !== undefined) sources = await ask(first.digest);
      },
    },
    { socket },
  );
}

describe("containerd's images", () => {
  it('are told of with what they stand for, and where that came from, over all namespaces', async () => {
    containerd.name(NAME, MANIFEST);
    containerd.name('registry.example/team/app:v2', MANIFEST, 'default');
    containerd.sources.set(`default ${MANIFEST.digest}`, {
      'containerd.io/distribution.source.registry.example': 'team/app,team/other',
      'containerd.io/gc.ref.content.0': 'sha256:0',
    });
    containerd.sources.set(`k8s.io ${MANIFEST.digest}`, {
      'containerd.io/distribution.source.docker.io': 'library/app',
    });
    await images.list();
    expect(told).toEqual([
      [
        { name: NAME, ...MANIFEST },
        { name: 'registry.example/team/app:v2', ...MANIFEST },
      ],
    ]);
    expect(sources).toEqual(
      new Map([
        ['registry.example', ['team/app', 'team/other']],
        ['docker.io', ['library/app']],
      ]),
    );
    expect(images.problem).toBeNull();
  });

  it('are listed once blobs have stopped coming, but not later than some seconds after the first', async () => {
    await images.start();
    clock.advance(1_000);
    await images.list();
    const before = told.length;
    for (let n = 0; n < 20; n++) {
      images.changed();
      clock.advance(500);
    }
    await images.list();
    expect(told.length - before).toBeGreaterThanOrEqual(2);
    expect(told.length - before).toBeLessThan(6);
  });

  it('are asked for again where there is no containerd yet', async () => {
    await images.stop();
    images = make('/nowhere/containerd.sock');
    await images.list();
    expect(images.problem).toContain('/nowhere/containerd.sock');
    expect(clock.timers).toBe(1);
  });

  it('are pinned for kubelet by a label, and the other labels stay', async () => {
    containerd.name(NAME, MANIFEST);
    const labels = containerd.images.get('k8s.io')?.get(NAME)?.labels ?? {};
    labels['io.cri-containerd.image'] = 'managed';
    const pins = new ImagePins({ connect }, { socket: containerd.socket });
    const { signal } = new AbortController();
    expect(await pins.pin(NAME, signal)).toBe(true);
    expect(labels).toEqual({ 'io.cri-containerd.image': 'managed', 'io.cri-containerd.pinned': 'pinned' });
    expect(await pins.unpin(NAME, signal)).toBe(true);
    expect(labels['io.cri-containerd.pinned']).toBe('');
    expect(await pins.pin('registry.example/none:v1', signal)).toBe(false);
    expect(await new ImagePins({ connect }, { socket: undefined }).pin(NAME, signal)).toBe(false);
  });
});
