/** Bundles by somebody who writes every byte of them, also the statement: taken as unsigned ones, with a person's consent. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { type Statement, writeStatement } from '../../../../shared/oci-layout/statement.ts';
import { unsignedStatement } from '../../../../shared/oci-layout/statement-file.ts';
import { BLOCK_BYTES, TAR_END, tarHeader } from '../../../../shared/oci-layout/tar.ts';
import {
  AMD,
  bundleOf,
  openImporter,
  statementOf,
  type TestImporter,
} from '../../../support/bundle-fixture.ts';
import { buildImage, type SampleImage } from '../../../support/registry/index.ts';
import { TempDirectories } from '../../../support/store-fixture.ts';

const NAME = 'reg.example/lab/app:v1';
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';

const directories = new TempDirectories();
let image: SampleImage;
let said: Statement;
let good: Buffer;
let node: TestImporter;
beforeAll(async () => {
  image = await buildImage({ platform: AMD, layers: [{ bytes: 3_000, seed: 1 }] });
  said = statementOf({ [NAME]: image });
  good = await bundleOf(unsignedStatement(said), [image]);
  node = await openImporter(directories.make(), undefined);
});
afterAll(async () => {
  await node.opened.close();
  directories.removeAll();
});

async function refuses(bytes: Uint8Array, why: RegExp = /refused/): Promise<void> {
  const before = node.all();
  await expect(node.import(bytes, { unsigned: true })).rejects.toThrow(why);
  expect(node.all()).toEqual(before);
}

/** A bundle whose statement is this text, written by hand. */
function withStatement(text: string | Uint8Array): Buffer {
  const first = Buffer.concat([Buffer.from('{"unsigned":true}\n'), Buffer.from(text)]);
  return Buffer.concat([file('tidepool/statement', first), restOf(good)]);
}

function file(name: string, bytes: Uint8Array): Buffer {
  const padding = Buffer.alloc((BLOCK_BYTES - (bytes.length % BLOCK_BYTES)) % BLOCK_BYTES);
  return Buffer.concat([tarHeader(name, bytes.length), bytes, padding]);
}

/** Without its first file. */
function restOf(bundle: Buffer): Buffer {
  return bundle.subarray(bundle.indexOf('oci-layout'));
}

/** A header with one thing in it that ours never have, its sum right. */
function header(name: string, size: number, change: (block: Buffer) => void): Buffer {
  const block = tarHeader(name, size);
  change(block);
  block.write('        ', 148, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

const type = (flag: string) => (block: Buffer) => void block.write(flag, 156, 'latin1');

describe('a tar by somebody else', () => {
  const strangers: Record<string, () => Buffer> = {
    'a name that leads elsewhere': () => file('../../etc/passwd', Buffer.from('x')),
    'an absolute name': () => file('/etc/passwd', Buffer.from('x')),
    'a symbolic link': () =>
      header('blobs/sha256', 0, (block) => {
        type('2')(block);
        block.write('/etc', 157, 'latin1');
      }),
    'a hard link': () => header('index.json', 0, type('1')),
    'a device': () => header('blobs/sha256/sda', 0, type('4')),
    'a pipe': () => header('oci-layout', 0, type('6')),
    'a directory': () => header('blobs/', 0, type('5')),
    'an extended header': () =>
      Buffer.concat([header('PaxHeader', 512, type('x')), Buffer.alloc(512, '9 size=1\n')]),
    'a global extended header': () => header('pax_global_header', 2 ** 33 - 1, type('g')),
    'a long name': () => Buffer.concat([header('././@LongLink', 512, type('L')), Buffer.alloc(512, 'a')]),
    'a sparse file': () => header('oci-layout', 0, type('S')),
    'a size that is none': () =>
      header('oci-layout', 0, (block) => void block.write('99999999999\0', 124, 'latin1')),
    'a size in base 256': () => header('oci-layout', 0, (block) => void block.fill(0xff, 124, 136)),
    'the same file twice': () => file('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}\n')),
    'one more file': () => file('README', Buffer.from('hello')),
  };
  it.each(Object.keys(strangers))('is refused whole with %s, wherever it stands', async (what) => {
    const stranger = strangers[what]?.() ?? Buffer.alloc(0);
    const places = ['oci-layout', 'index.json', 'blobs/sha256/'].map((name) => good.indexOf(`${name}`));
    for (const at of [0, ...places, good.length - TAR_END.length]) {
      if (at === good.indexOf('oci-layout') && what === 'the same file twice') continue;
      await refuses(Buffer.concat([good.subarray(0, at), stranger, good.subarray(at)]));
    }
  });

  it('is refused with a header that is right but for one field', async () => {
    const at = good.indexOf('index.json');
    const size = Number.parseInt(good.toString('latin1', at + 124, at + 135), 8);
    for (const offset of [100, 108, 116, 136, 257, 265, 297, 329, 345]) {
      const block = header('index.json', size, (each) => void each.write('7', offset, 'latin1'));
      await refuses(Buffer.concat([good.subarray(0, at), block, good.subarray(at + BLOCK_BYTES)]));
    }
  });

  it('is refused at its first block where that is not a statement', async () => {
    await refuses(restOf(good), /does not begin with a statement/);
    await refuses(Buffer.alloc(4_096), /does not begin with a statement/);
    await refuses(Buffer.from('PK\x03\x04'.padEnd(2_048, 'x')), /does not begin with a statement/);
    await refuses(tarHeader('tidepool/statement', 8 ** 11 - 1), /too long/);
  });
});

describe('an index.json by somebody else', () => {
  const bodies: Record<string, string> = {
    empty: '',
    'of another image': '{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:00","size":1}]}\n',
    'nested deeply': `${'['.repeat(100_000)}${']'.repeat(100_000)}\n`,
    huge: `{"schemaVersion":2,"manifests":[${' '.repeat(9_000_000)}]}\n`,
    'with keys twice': '{"schemaVersion":2,"manifests":[],"manifests":[]}\n',
  };
  it.each(Object.keys(bodies))('is refused: %s', async (what) => {
    const [at, end] = [good.indexOf('index.json'), good.indexOf('blobs/sha256/')];
    const index = file('index.json', Buffer.from(bodies[what] ?? ''));
    await refuses(Buffer.concat([good.subarray(0, at), index, good.subarray(end)]));
  });
});

describe('a statement by somebody else', () => {
  const text = (): string => writeStatement(said).toString();
  const texts: Record<string, () => string> = {
    'that is no JSON': () => '{',
    'that is nested deeply': () => `${'['.repeat(500_000)}\n`,
    'with a key twice': () => text().replace('"version":1', '"version":1,"version":1'),
    'with a key that nobody knows': () => text().replace('"version":1', '"version":1,"run":"sh"'),
    'with spaces': () => text().replace('"version":1', '"version": 1'),
    'with a number in other words': () => text().replace('"version":1', '"version":1.0'),
    'of another version': () => text().replace('"version":1', '"version":2'),
    'with a registry that is none': () => text().replaceAll('reg.example', '../../x'),
    'with a repository that leads elsewhere': () => text().replaceAll('lab/app', '../app'),
    'with a size below 0': () => text().replace(/"size":\d+\}\],"leftOut"/, '"size":-1}],"leftOut"'),
    'with a size that no blob has': () =>
      text().replace(/"size":\d+\}\],"leftOut"/, '"size":1e300}],"leftOut"'),
    'with another digest': () =>
      text().replace(/"blobs":\[\{"digest":"sha256:...../, (all) => `${all.slice(0, -5)}00000`),
    'with nothing in it': () => text().replace(/"images":\[.*\],"manifests"/, '"images":[],"manifests"'),
  };
  it.each(Object.keys(texts))('is refused: %s', async (what) => {
    await refuses(withStatement(texts[what]?.() ?? ''));
  });

  it('is refused where its lists are not those of its images', async () => {
    const [first, second] = said.blobs;
    if (first === undefined || second === undefined) throw new Error('no blobs');
    const changed: readonly [Partial<Statement>, RegExp][] = [
      [{ blobs: [first] }, /needs sha256/],
      [{ blobs: [first, { ...second, size: second.size + 1 }] }, /refused|something else/],
      [
        { blobs: [...said.blobs, { digest: digestOf(Buffer.from('more')), size: 4 }] },
        /none of its images names/,
      ],
      [
        { leftOut: [{ digest: digestOf(Buffer.from('x')), size: 4, why: 'base' }] },
        /none of its images names/,
      ],
      [{ blobs: [first], leftOut: [{ ...second, why: 'platform' }] }, /needs sha256/],
      [{ images: said.images.map((each) => ({ ...each, mediaType: INDEX })) }, /type|index/],
      [{ images: said.images.map((each) => ({ ...each, size: each.size + 1 })) }, /size/],
    ];
    const more = new Map<string, Uint8Array>([[digestOf(Buffer.from('more')), Buffer.from('more')]]);
    for (const [change, why] of changed) {
      const first = unsignedStatement({ ...said, ...change });
      const bytes = await bundleOf(first, [image], more).catch(() =>
        Buffer.concat([file('tidepool/statement', first), restOf(good)]),
      );
      await refuses(bytes, why);
    }
  });
});

describe('manifests by somebody else', () => {
  const layer = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: `sha256:${'a'.repeat(64)}`,
    size: 4,
  };
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    digest: `sha256:${'b'.repeat(64)}`,
    size: 4,
  };
  const manifests: Record<string, [string, unknown, RegExp]> = {
    'no JSON': [OCI, undefined, /no JSON/],
    'a list': [OCI, [], /no JSON object/],
    'of another type than it says': [OCI, { mediaType: INDEX, config, layers: [layer] }, /not of the type/],
    'both an image and an index': [
      OCI,
      { config, layers: [layer], manifests: [] },
      /no manifest of an image/,
    ],
    'an index with layers': [INDEX, { manifests: [], layers: [layer] }, /no index/],
    'with layers at addresses of their own': [
      OCI,
      { config, layers: [{ ...layer, urls: ['http://x/'] }] },
      /does not hold itself/,
    ],
    'with foreign layers': [
      OCI,
      {
        config,
        layers: [{ ...layer, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }],
      },
      /does not hold itself/,
    ],
    'with a digest that is none': [
      OCI,
      { config, layers: [{ ...layer, digest: 'sha256:../../x' }] },
      /not sha256/,
    ],
    'with a size below 0': [OCI, { config, layers: [{ ...layer, size: -4 }] }, /size that is none/],
    'with two sizes of one blob': [
      OCI,
      { config, layers: [layer, { ...layer, size: 5 }] },
      /with 4 bytes and with 5/,
    ],
    'that names something unknown as a manifest': [
      INDEX,
      { manifests: [{ ...layer, mediaType: 'text/html' }] },
      /which is no manifest/,
    ],
  };
  it.each(Object.keys(manifests))('are refused: %s', async (what) => {
    const [mediaType, json, why] = manifests[what] ?? [OCI, {}, /never/];
    const bytes = Buffer.from(json === undefined ? '{{' : JSON.stringify(json));
    await refuses(await bundleFor(mediaType, bytes), why);
  });

  it('are refused where indexes name indexes without end', async () => {
    const levels: { digest: Digest; size: number; bytes: Buffer }[] = [];
    for (let level = 0; level < 6; level++) {
      const below = levels.at(-1);
      const named = below === undefined ? [] : [{ mediaType: INDEX, digest: below.digest, size: below.size }];
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: named }));
      levels.push({ digest: digestOf(bytes), size: bytes.length, bytes });
    }
    const top = levels.at(-1);
    if (top === undefined) throw new Error('no index');
    await refuses(
      await bundleFor(INDEX, top.bytes, new Map(levels.map(({ digest, bytes }) => [digest, bytes]))),
      /index of indexes of indexes/,
    );
  });
});

/** A bundle of one image with this manifest. */
async function bundleFor(
  mediaType: string,
  bytes: Buffer,
  all: ReadonlyMap<Digest, Uint8Array> = new Map([[digestOf(bytes), bytes]]),
): Promise<Buffer> {
  const digest = digestOf(bytes);
  const typed = mediaType === INDEX ? INDEX : OCI;
  const [name] = said.images;
  if (name === undefined) throw new Error('no image');
  const { platform: _, ...rest } = name;
  const first = unsignedStatement({
    ...said,
    images: [{ ...rest, digest, size: bytes.length, mediaType: typed }],
    manifests: [...all].map(([each, content]) => ({ digest: each, size: content.length, mediaType: typed })),
    blobs: [],
  });
  return await bundleOf(first, [], all);
}
