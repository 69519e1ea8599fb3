import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HttpPeerClient } from '../../edge/peers/client.ts';
import { systemClock } from '../../shared/clock.ts';
import { digestOf, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { layoutOf } from '../../shared/pieces.ts';
import { CountingBuffers } from '../support/peer-fixture.ts';
import { ACCOUNT, PrivatePool, WRONG } from '../support/private-pool.ts';
import { buildImage, type SampleImage } from '../support/registry/index.ts';

const SECRET = 'secret/app';
const OPEN = 'open/app';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const NODE_POLICY = 'tuning:\n  tags:\n    offlineAccess: node\n';

let pool: PrivatePool;
let image: SampleImage;
beforeEach(async () => {
  pool = new PrivatePool();
  await pool.open();
  image = await pool.image(1);
  pool.registry.addImage(SECRET, 'v1', image);
  pool.registry.addImage(OPEN, 'v1', await pool.image(2));
});
afterEach(() => pool.close());

/** Layer of the private image. */
function layer() {
  const found = image.blobs.find(({ size }) => size > 100_000);
  if (found === undefined) throw new Error('no layer');
  return found;
}

function paths(): string[] {
  return [
    `${SECRET}/manifests/v1`,
    `${SECRET}/manifests/${image.digest}`,
    `${SECRET}/blobs/${layer().digest}`,
  ];
}

async function ok(statuses: Promise<number[]>): Promise<void> {
  expect((await statuses).every((status) => status === 200)).toBe(true);
}

describe('a private image', () => {
  it('is for those whose credentials its registry takes, also once it is cached', async () => {
    await pool.start(1);
    for (const path of paths()) expect((await pool.get(1, path)).status).toBe(401);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    for (const path of [...paths(), `${SECRET}/tags/list`]) {
      for (const method of ['GET', 'HEAD']) {
        const stranger = await pool.ask(1, path, { method });
        expect([path, stranger.status]).toEqual([path, 401]);
        expect(stranger.headers.get('www-authenticate')).toBe('Basic realm="tidepool"');
        await stranger.arrayBuffer();
        const guesser = await pool.ask(1, path, { method, as: WRONG });
        expect([path, guesser.status]).toEqual([path, 401]);
        expect(guesser.headers.get('www-authenticate')).not.toMatch(/bearer/i);
        await guesser.arrayBuffer();
      }
      expect((await pool.get(1, path, { as: ACCOUNT })).status).toBe(200);
    }
  });

  it('costs no question once its account is known', async () => {
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const before = pool.registry.requests.length;
    for (let n = 0; n < 5; n++) {
      expect((await pool.get(1, `${SECRET}/blobs/${layer().digest}`, { as: ACCOUNT })).status).toBe(200);
    }
    expect(pool.registry.requests.length).toBe(before);
  });

  it('is as open to all as its registry makes it, and closed again when that closes it', async () => {
    await pool.start(1);
    await ok(pool.pull(1, OPEN, await pool.image(2)));
    const before = pool.registry.requests.length;
    await ok(pool.pull(1, OPEN, await pool.image(2)));
    // The tag alone.
    expect(pool.registry.requests.length).toBe(before + 1);
    pool.registry.options.auth = { kind: 'bearer', ...ACCOUNT };
    pool.registry.revokeTokens();
    expect((await pool.get(1, `${OPEN}/manifests/v1`)).status).toBe(401);
    expect((await pool.get(1, `${OPEN}/blobs/${(await pool.image(2)).blobs[0]?.digest}`)).status).toBe(401);
  });

  it('leaves nothing of its account in the logs or on disk', async () => {
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    await pool.get(1, `${SECRET}/manifests/v1`, { as: WRONG });
    await pool.registry.stop();
    await pool.get(1, `${SECRET}/manifests/v1`, { as: WRONG });
    await pool.get(1, `${SECRET}/blobs/${layer().digest}`);
    expect(pool.log.length).toBeGreaterThan(1_000);
    const encoded = [ACCOUNT, WRONG].flatMap(({ username, password }) => [
      password,
      Buffer.from(`${username}:${password}`).toString('base64'),
    ]);
    const disk = await pool.disk(1);
    for (const secret of encoded) {
      expect(pool.log).not.toContain(secret);
      expect(disk.includes(secret)).toBe(false);
    }
  });
});

describe('while the registry cannot be asked', () => {
  it('an account that it took is known here and at the neighbours, others are not', async () => {
    await Promise.all([pool.start(1, [2]), pool.start(2, [1])]);
    await Promise.all([pool.untilLive(1, 1), pool.untilLive(2, 1)]);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    await pool.registry.stop();
    // Node 2 has never asked the registry, and is not told by anybody who pulls there.
    await ok(pool.pull(2, SECRET, image, { as: ACCOUNT }));
    for (const path of paths()) {
      expect([path, (await pool.get(2, path)).status]).toEqual([path, 401]);
      expect([path, (await pool.get(2, path, { as: WRONG })).status]).toEqual([path, 401]);
      expect([path, (await pool.get(1, path)).status]).toEqual([path, 401]);
    }
    // It outlives the process that learnt it.
    await pool.stop(1);
    await pool.stop(2);
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    expect((await pool.get(1, `${SECRET}/manifests/v1`)).status).toBe(401);
  });

  it('a member that came late asks its neighbours who may pull', async () => {
    await pool.start(1, [2]);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    await ok(pool.pull(1, OPEN, await pool.image(2)));
    await pool.registry.stop();
    await pool.start(2, [1]);
    await pool.untilLive(2, 1);
    await ok(pool.pull(2, SECRET, image, { as: ACCOUNT }));
    await ok(pool.pull(2, OPEN, await pool.image(2)));
    const { digest } = await pool.image(2);
    expect((await pool.get(2, `${OPEN}/manifests/${digest}`)).status).toBe(200);
    expect((await pool.get(2, `${SECRET}/manifests/v1`)).status).toBe(401);
  });

  it('whoever reaches the mirror is let in where the pool says so', async () => {
    await pool.start(1, [], NODE_POLICY);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    expect((await pool.get(1, `${SECRET}/manifests/v1`)).status).toBe(401);
    await pool.registry.stop();
    await ok(pool.pull(1, SECRET, image));
  });
});

describe('a digest of a private image', () => {
  it('is not given out under an open repository of the same registry, online or offline', async () => {
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    await ok(pool.pull(1, OPEN, await pool.image(2)));
    for (const online of [true, false]) {
      if (!online) await pool.registry.stop();
      for (const path of [`blobs/${layer().digest}`, `manifests/${image.digest}`]) {
        const answer = await pool.get(1, `${OPEN}/${path}`);
        expect([online, path, answer.status]).toEqual([online, path, online ? 404 : 403]);
      }
    }
  });

  it('nor where an index of that repository names its manifest', async () => {
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const { digest, mediaType, size } = image;
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [{ digest, mediaType, size }] }),
    );
    const index = { mediaType: INDEX, digest: digestOf(bytes), size: bytes.length, bytes };
    pool.registry.addImage(OPEN, 'v1', {
      ...index,
      platform: undefined,
      manifests: [index],
      blobs: [],
      blobBytes: 0,
    });
    expect((await pool.get(1, `${OPEN}/manifests/v1`)).status).toBe(200);
    expect((await pool.get(1, `${OPEN}/manifests/${digest}`)).status).toBe(404);
    expect((await pool.get(1, `${OPEN}/blobs/${layer().digest}`)).status).toBe(404);
  });

  it('nor under a hostile registry that agrees to everything, here or at a neighbour', async () => {
    await Promise.all([pool.start(1, [2]), pool.start(2, [1])]);
    await Promise.all([pool.untilLive(1, 1), pool.untilLive(2, 1)]);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const { digest, size } = layer();
    const secret = Buffer.from((await pool.get(1, `${SECRET}/blobs/${digest}`, { as: ACCOUNT })).body);
    expect(secret.length).toBe(size);
    const bait = await buildImage({ layers: [{ bytes: 10, seed: 9 }], annotations: { bait: 'yes' } });
    const manifest = JSON.parse(Buffer.from(bait.manifests[0]?.bytes ?? []).toString()) as {
      layers: unknown;
    };
    manifest.layers = [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size }];
    const bytes = Buffer.from(JSON.stringify(manifest));
    const { mediaType } = bait;
    pool.evil.manifests.push({ mediaType, digest: digestOf(bytes), size: bytes.length, bytes });
    pool.evil.blobBytes = size;
    pool.evil.lie = image.digest;
    const evil = { registry: 'evil.example' };
    for (const node of [1, 2]) {
      expect((await pool.get(node, 'any/thing/manifests/v1', evil)).status).toBe(200);
      const answer = await pool.get(node, `any/thing/blobs/${digest}`, evil);
      expect(answer.body.equals(secret)).toBe(false);
      expect(answer.body.includes(secret.subarray(0, 64))).toBe(false);
      const range = await pool.range(node, `any/thing/blobs/${digest}`, 0, 999, evil);
      expect(range.includes(secret.subarray(0, 64))).toBe(false);
      for (const reference of ['lie', image.digest]) {
        const told = await pool.get(node, `any/thing/manifests/${reference}`, evil);
        expect([reference, told.status]).toEqual([reference, 502]);
      }
      // And it is still served to those whose it is.
      const right = await pool.get(node, `${SECRET}/blobs/${digest}`, { as: ACCOUNT });
      expect(right.body.equals(secret)).toBe(true);
    }
  });

  it('is given out under another registry that has shown every byte of it', async () => {
    pool.twin.addImage('copy/app', 'v1', image);
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const twin = { registry: 'twin.example' };
    await ok(pool.pull(1, 'copy/app', image, twin));
    const reads = pool.twin.requests.filter(({ kind, method }) => kind === 'blob' && method === 'GET').length;
    expect(reads).toBeGreaterThan(0);
    await ok(pool.pull(1, 'copy/app', image, twin));
    expect(pool.twin.requests.filter(({ kind, method }) => kind === 'blob' && method === 'GET').length).toBe(
      reads,
    );
  });

  it('crosses the uplink once where two repositories of its registry have it', async () => {
    const other = await buildImage({ layers: [{ bytes: 600_000, seed: 1 }], annotations: { of: 'other' } });
    expect(other.blobs.map(({ digest }) => digest)).toContain(layer().digest);
    expect(other.digest).not.toBe(image.digest);
    pool.registry.addImage('secret/other', 'v1', other);
    await Promise.all([pool.start(1, [2]), pool.start(2, [1])]);
    await Promise.all([pool.untilLive(1, 1), pool.untilLive(2, 1)]);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const reads = (): number =>
      pool.registry.requests.filter(({ kind, method }) => kind === 'blob' && method === 'GET').length;
    const before = reads();
    await ok(pool.pull(2, 'secret/other', other, { as: ACCOUNT }));
    expect(reads()).toBe(before);
  });

  it('is not given to a neighbour that asks under a repository which it is not known to be of', async () => {
    await pool.start(1);
    await ok(pool.pull(1, SECRET, image, { as: ACCOUNT }));
    const client = new HttpPeerClient(
      { store: new CountingBuffers(), clock: systemClock },
      { node: parseNodeName('other'), pool: parsePoolName('shop'), address: '127.0.0.1:9' },
    );
    const member = { node: parseNodeName('n1'), address: pool.peer(1) };
    const { signal } = new AbortController();
    const { digest, size } = layer();
    const layout = layoutOf(size);
    const name = (registry: string, repository: string) => ({ registry, repository });
    const question = { piece: 0, key: digest, layout, excluding: [], round: 0, priority: 0 };
    try {
      const right = name('priv.example', SECRET);
      const given = await client.piece(member, { ...question, ...right }, signal);
      expect(given.kind).toBe('bytes');
      if (given.kind === 'bytes') given.buffer.release();
      expect(await client.holdings(member, [digest, image.digest], right, signal)).toHaveLength(2);
      for (const wrong of [name('priv.example', OPEN), name('evil.example', SECRET)]) {
        expect(await client.piece(member, { ...question, ...wrong }, signal)).toMatchObject({
          code: 'DENIED',
        });
        expect(await client.holdings(member, [digest, image.digest], wrong, signal)).toEqual([]);
        expect(await client.size(member, digest, wrong, signal)).toBeUndefined();
        expect(await client.claims(member, digest, wrong, signal)).toBeUndefined();
        expect(await client.manifest(member, image.digest, wrong, signal)).toBeUndefined();
        expect((await client.access(member, { ...wrong, digest }, signal)).scope).toBeUndefined();
        const joined = await client.join(
          member,
          {
            ...wrong,
            key: digest,
            size,
            pieceSize: layout.pieceSize,
            ranked: true,
            weight: 1,
            have: new Uint8Array(Math.ceil(layout.pieceCount / 8)),
            claimed: [],
          },
          signal,
        );
        expect([joined.whole, Buffer.from(joined.have).some((bits) => bits !== 0)]).toEqual([false, false]);
      }
    } finally {
      await client.close();
    }
  });
});
