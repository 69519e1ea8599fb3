import { cpSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WordTrust } from '../../../../edge/transfer/image-words.ts';
import { unsignedStatement } from '../../../../shared/oci-layout/statement-file.ts';
import { parsePlatform } from '../../../../shared/registry/platform.ts';
import {
  AMD,
  bundleOf,
  inChunks,
  openImporter,
  signed,
  statementOf,
  type TestImporter,
} from '../../../support/bundle-fixture.ts';
import { buildImage, type SampleImage } from '../../../support/registry/index.ts';
import { readBytes, TempDirectories } from '../../../support/store-fixture.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const NAME = 'reg.example/lab/app:v1';
const BLOCK = 512;

const directories = new TempDirectories();
let authority: TestAuthority;
let identity: TestIdentity;
let trust: WordTrust;
let image: SampleImage;
let good: Buffer;
let node: TestImporter;
beforeAll(async () => {
  authority = await TestAuthority.make();
  identity = await authority.node('n1', 'shop-1');
  trust = { judge: (certificate) => identity.judge(certificate), trustedNow: () => identity.now() };
  image = await buildImage({
    platform: AMD,
    layers: [
      { bytes: 3_000, seed: 1 },
      { bytes: 270_000, seed: 2 },
    ],
  });
  good = await bundleOf(await signed(statementOf({ [NAME]: image }), authority), [image]);
  node = await openImporter(directories.make(), trust);
});
afterAll(async () => {
  await node.opened.close();
  directories.removeAll();
});

/** Refused whole: nothing that is known or on the disk is other than before. */
async function refuses(bytes: Uint8Array, why?: RegExp): Promise<void> {
  const before = node.all();
  await expect(node.import(bytes)).rejects.toThrow(why);
  expect(node.all()).toEqual(before);
}

describe('a bundle that is no good', () => {
  it('is refused whole, cut at whatever block', async () => {
    const blocks = good.length / BLOCK;
    for (let block = 0; block < blocks; block++) {
      // The large layer's blocks are alike.
      if (block > 24 && block < blocks - 12 && block % 61 !== 0) continue;
      await refuses(good.subarray(0, block * BLOCK), /BUNDLE|refused/);
    }
    await refuses(good.subarray(0, good.length - 1), /in the middle/);
  });

  it('is refused whole, or does what it did, with any byte changed', async () => {
    const before = node.all();
    const head = Math.floor(good.length / 40);
    const place = fc.oneof(fc.nat(head), fc.nat(good.length - 1));
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bytes = Buffer.from(good);
        bytes[at] = (bytes[at] ?? 0) ^ change;
        // A signature in base64 may be written in other letters; what it says is the same then.
        const taken = await node.import(bytes, { check: true }).catch(() => undefined);
        if (taken !== undefined) expect(taken.images).toEqual([{ name: NAME, digest: image.digest }]);
        else await node.import(bytes).catch(() => undefined);
        expect(node.all()).toEqual(before);
      }),
      { seed: 20_26, numRuns: 60 },
    );
  });

  it('is refused where another authority has signed it, a revoked key, or too long ago', async () => {
    const said = statementOf({ [NAME]: image });
    const stranger = await TestAuthority.make('stranger');
    await refuses(await bundleOf(await signed(said, stranger), [image]), /no authority that is trusted/);
    const old = await signed(said, authority, { now: Date.now() - 100_000_000, lifetimeMs: 60_000 });
    await refuses(await bundleOf(old, [image]), /ended at|counted until/);
    await refuses(await bundleOf(unsignedStatement(said), [image]), /the hub has not signed it/);
  });

  it('is refused where its time is over by the time that can be trusted, grace or not', async () => {
    const patient = await authority.node('n2', 'shop-1', { graceMs: 1e12 });
    const late: WordTrust = {
      judge: (each) => patient.judge(each),
      trustedNow: () => Date.now() + 40 * 86_400_000,
    };
    const other = await openImporter(directories.make(), late);
    await expect(other.import(good)).rejects.toThrow(/counted until/);
    await other.opened.close();
  });

  it('is refused on a node that cannot run it, unless told otherwise', async () => {
    const arm = await openImporter(directories.make(), trust, parsePlatform('linux/arm64'));
    const before = arm.all();
    await expect(arm.import(good)).rejects.toThrow(/is for linux\/amd64, and this node is linux\/arm64/);
    expect(arm.all()).toEqual(before);
    await arm.import(good, { anyPlatform: true });
    expect(arm.opened.store.usage().blobs).toBe(3);
    await arm.opened.close();
  });

  it('is refused before a byte of it is written where there is no room', async () => {
    node.room = 1_000;
    await refuses(good, /needs 2\d\d(\.\d)? kB and the store has room for 1/i);
    node.room = 1e12;
  });

  it('takes its blobs back when whoever asked leaves in the middle', async () => {
    const before = node.all();
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new Error('gone'));
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield good.subarray(0, good.length - 100_000);
      onProgress();
      yield good.subarray(good.length - 100_000);
    }
    await expect(node.import(slow(), { signal: controller.signal })).rejects.toThrow('gone');
    expect(node.all()).toEqual(before);
  });
});

describe('a bundle that is good', () => {
  it('is taken once, however often it comes, and what was here before stays', async () => {
    const other = await openImporter(directories.make(), trust);
    const first = await other.import(good);
    expect(first).toMatchObject({ word: 'hub', blobs: 3, images: [{ name: NAME, digest: image.digest }] });
    const after = other.all();
    expect(await other.import(good)).toMatchObject({ newBytes: 0 });
    expect(other.all()).toEqual(after);
    const damaged = Buffer.from(good);
    damaged[good.length - 5_000] = (damaged[good.length - 5_000] ?? 0) ^ 1;
    await expect(other.import(damaged)).rejects.toThrow(/are others/);
    expect(other.all()).toEqual(after);
    for (const { digest } of image.blobs) {
      const stored = other.opened.store.get(digest);
      expect(stored?.whole).toBe(true);
      if (stored !== undefined) expect((await readBytes(stored)).length).toBe(stored.layout.size);
    }
    await other.opened.close();
  });

  it('is taken from a device that is longer than it', async () => {
    const other = await openImporter(directories.make(), trust);
    const device = Buffer.concat([good, Buffer.alloc(70_000, 0xa5)]);
    expect(await other.import(inChunks(device))).toMatchObject({ word: 'hub' });
    await other.opened.close();
  });

  it('is taken without a signature of the hub where somebody vouches for it', async () => {
    const bytes = await bundleOf(unsignedStatement(statementOf({ [NAME]: image })), [image]);
    const insecure = await openImporter(directories.make(), undefined);
    await expect(insecure.import(good)).rejects.toThrow(/--unsigned/);
    expect(await insecure.import(bytes, { unsigned: true })).toMatchObject({ word: 'nobody' });
    expect(insecure.opened.index.tags.list('reg.example', 'lab/app', 'v1')).toHaveLength(1);
    await insecure.opened.close();
  });

  it('leaves nothing where the agent ended in the middle', async () => {
    const directory = directories.make();
    const other = await openImporter(directory, trust);
    const empty = other.all();
    const copy = directories.make();
    async function* cut(): AsyncGenerator<Uint8Array> {
      yield good.subarray(0, good.length - 2_000);
      await other.opened.store.flush();
      cpSync(directory, copy, { recursive: true });
    }
    await expect(other.import(cut())).rejects.toThrow(/in the middle/);
    expect(other.all()).toEqual(empty);
    await other.opened.close();
    const again = await openImporter(copy, trust);
    expect(again.opened.store.usage().blobs).toBeGreaterThan(0);
    await again.importer.start();
    expect(again.all()).toEqual(empty);
    expect(await again.import(good)).toMatchObject({ word: 'hub' });
    await again.opened.close();
  });

  it('counts on what the pool has, and on nothing else', async () => {
    const [config, , large] = image.blobs;
    if (config === undefined || large === undefined) throw new Error('no blobs');
    const said = statementOf({ [NAME]: image });
    const left = { digest: large.digest, size: large.size, why: 'base' as const };
    const thin = await signed(
      {
        ...said,
        base: 'the first',
        blobs: said.blobs.filter(({ digest }) => digest !== large.digest),
        leftOut: [left],
      },
      authority,
    );
    const bytes = await bundleOf(thin, [image]);
    await refuses(bytes, /counts on the first, and 1 of its blobs/);
    node.inPool.add(large.digest);
    expect(await node.import(bytes)).toMatchObject({ blobs: 2 });
  });
});
