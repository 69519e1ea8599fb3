import { beforeEach, describe, expect, it } from 'vitest';
import type { ManifestRecord } from '../../../../edge/index/types.ts';
import { withResolvers } from '../../../../edge/transfer/flight.ts';
import type { Interest } from '../../../../edge/transfer/interest.ts';
import { wantedPieces } from '../../../../edge/transfer/interest.ts';
import { Warmup } from '../../../../edge/transfer/warmup.ts';
import { Bitmap } from '../../../../shared/bitmap.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const NAME = { registry: 'r.example', repository: 'app' };
const [A, B, OTHERS] = ['a', 'b', 'others'].map((text) => digestOf(Buffer.from(text)));

function image(layers: readonly (Digest | undefined)[]): ManifestRecord {
  const bytes = Buffer.from(JSON.stringify({ layers: layers.map((digest) => ({ digest, size: 5 })) }));
  return { digest: digestOf(bytes), mediaType: 'x', bytes };
}

const IMAGE = image([A, B, OTHERS]);

class Fixture {
  readonly clock = new ManualClock();
  readonly wanted = new Map<string, Interest>();
  readonly held = new Set<string>();
  readonly warmup = new Warmup({
    store: { get: (key) => (this.held.has(key) ? ({ whole: true } as never) : undefined) },
    swarms: {
      open: ({ key }) =>
        ({
          stored: { layout: { pieceCount: 1 } },
          enter: (interest: Interest) => {
            this.wanted.set(key, interest);
            return () => void this.wanted.delete(key);
          },
        }) as never,
    },
    provenance: { mayShare: (_, key) => key !== OTHERS, begin: () => undefined },
    clock: this.clock,
    log: silentLogger(),
  });

  async begin(quiet = true) {
    const warming = this.warmup.whileQuiet(NAME, Promise.resolve(quiet), async () => ({
      named: IMAGE.digest,
      image: IMAGE,
    }));
    await new Promise((resolve) => setImmediate(resolve));
    return warming;
  }
}

let fixture: Fixture;
beforeEach(() => {
  fixture = new Fixture();
});

describe('what a tag probably names', () => {
  it('is brought here while the registry is slow, but for what is here or not to be shared', async () => {
    await fixture.begin(false);
    expect(fixture.wanted.size).toBe(0);
    fixture.held.add(String(B));
    await fixture.begin();
    expect([...fixture.wanted.keys()]).toEqual([A]);
  });

  it('comes from neighbours alone', async () => {
    await fixture.begin();
    const pieces = wantedPieces(new Bitmap(1), fixture.wanted.values(), 16);
    expect(pieces.map(({ wan }) => wan)).toEqual([false, false]);
  });

  it('comes on for a while where the tag does name it, and no further where it does not, or nobody waits', async () => {
    (await fixture.begin()).answered(IMAGE.digest);
    fixture.clock.advance(4_000);
    expect(fixture.wanted.size).toBe(2);
    fixture.clock.advance(2_000);
    expect(fixture.wanted.size).toBe(0);
    for (const digest of [A, undefined]) {
      const warming = await fixture.begin();
      expect(fixture.wanted.size).toBe(2);
      warming.answered(digest);
      expect(fixture.wanted.size).toBe(0);
    }
    expect(fixture.clock.timers).toBe(0);
  });

  it('is not begun once the tag is answered', async () => {
    const quiet = withResolvers<boolean>();
    const find = async () => ({ named: IMAGE.digest, image: IMAGE });
    const warming = fixture.warmup.whileQuiet(NAME, quiet.promise, find);
    warming.answered(undefined);
    quiet.resolve(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(fixture.wanted.size).toBe(0);
  });
});
