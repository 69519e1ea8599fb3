/** A member whose certificate is good and whose word is not, among agents that speak TLS. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { HttpPeerClient } from '../../edge/peers/client.ts';
import { PATHS } from '../../edge/peers/wire/paths.ts';
import { systemClock } from '../../shared/clock.ts';
import { type Digest, digestOf, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { CliCapture } from '../support/cli-capture.ts';
import { EnrolmentHub } from '../support/enrolment-hub.ts';
import { EvilNeighbour } from '../support/evil-neighbour.ts';
import { eventually } from '../support/hub-fixture.ts';
import { CountingBuffers } from '../support/peer-fixture.ts';
import { buildImage, type SampleImage, SampleRegistry } from '../support/registry/index.ts';
import { TestAuthority } from '../support/trust.ts';

const PEER_PORT = 16_187;
const POOL = 'shop-1';
const TEST_MS = 120_000;
const EVIL = 9;

class Pool {
  readonly registry = new SampleRegistry();
  readonly hub: EnrolmentHub;
  readonly #authority: TestAuthority;
  readonly #directory = mkdtempSync(join(tmpdir(), 'liar-'));
  readonly #network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  readonly #agents = new Map<number, { readonly cli: CliCapture; readonly ended: Promise<unknown> }>();
  readonly #stops: (() => Promise<void>)[] = [];

  constructor(authority: TestAuthority) {
    this.#authority = authority;
    this.hub = new EnrolmentHub(authority);
  }

  peer(n: number): string {
    return `${this.#network}.${n}:${PEER_PORT}`;
  }

  /** Agents that a hub has let in, whose broker is out of reach ever since. */
  async start(n: number, peers: readonly number[], more: readonly string[] = []): Promise<void> {
    const cli = new CliCapture();
    const address = `${this.#network}.${n}`;
    const ended = cli.run(
      'run',
      `--node=n${n}`,
      `--address=${address}`,
      `--data=${join(this.#directory, `n${n}`)}`,
      `--mirror=${address}:0`,
      `--peer-port=${PEER_PORT}`,
      `--ops=${address}:0`,
      '--cri=none',
      '--hub=mqtts://127.0.0.1:1',
      `--enroll-url=${this.hub.url}`,
      `--join=${this.hub.token}`,
      `--registry=reg.example=${this.registry.url}`,
      `--peers=${peers.map((peer) => this.peer(peer)).join(',')}`,
      ...more,
    );
    this.#agents.set(n, { cli, ended });
    await cli.shows('"agent is up"');
    await eventually(
      () => this.status(n),
      ({ members }) => members.filter(({ live }) => live).length >= peers.length,
      30_000,
    );
  }

  async liar(init: {
    lie: 'claimed' | 'unclaimed' | 'nothing';
    tell?: Readonly<Record<string, unknown>>;
  }): Promise<EvilNeighbour> {
    const identity = await this.#authority.node('evil', POOL);
    const evil = new EvilNeighbour({
      node: 'evil',
      address: this.peer(EVIL),
      pool: POOL,
      identity,
      ...init,
    });
    await evil.start(this.peer(EVIL));
    this.#stops.push(() => evil.stop());
    return evil;
  }

  /** The liar as one that asks, with any name and address in its requests. */
  async asking(node: string, address: string): Promise<HttpPeerClient> {
    const client = new HttpPeerClient(
      {
        store: new CountingBuffers(),
        clock: systemClock,
        identity: await this.#authority.node('evil', POOL),
      },
      { node: parseNodeName(node), pool: parsePoolName(POOL), address },
    );
    this.#stops.push(() => client.close());
    return client;
  }

  async status(n: number): Promise<AgentStatus> {
    return (await (await fetch(`http://${this.#address(n, 'ops')}/v1/status`)).json()) as AgentStatus;
  }

  async evilAside(n: number): Promise<boolean | undefined> {
    return (await this.status(n)).members.find(({ node }) => node === 'evil')?.setAside;
  }

  mirror(n: number, path: string): Promise<Response> {
    return fetch(`http://${this.#address(n, 'mirror')}/v2/lab/app/${path}?ns=reg.example`);
  }

  /** The digest of what came whole; else why it did not. */
  async blob(n: number, digest: Digest): Promise<string> {
    try {
      const answer = await this.mirror(n, `blobs/${digest}`);
      const body = Buffer.from(await answer.arrayBuffer());
      return answer.status === 200 ? digestOf(body) : `${answer.status}: ${body.toString()}`;
    } catch (error) {
      return String(error);
    }
  }

  async pull(n: number, image: SampleImage): Promise<void> {
    expect((await this.mirror(n, 'manifests/v1')).status).toBe(200);
    for (const { digest } of image.blobs) expect(await this.blob(n, digest)).toBe(digest);
  }

  async close(): Promise<void> {
    for (const { cli } of this.#agents.values()) cli.stop();
    await Promise.all([...this.#agents.values()].map(({ ended }) => ended));
    await Promise.all(this.#stops.map((stop) => stop()));
    await Promise.all([this.registry.stop(), this.hub.stop()]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #address(n: number, kind: 'mirror' | 'ops'): string {
    const line = this.#agents
      .get(n)
      ?.cli.stderr.split('\n')
      .find((each) => each.includes('"agent is up"'));
    return String((JSON.parse(line ?? '{}') as Record<string, unknown>)[kind]);
  }
}

let pool: Pool;
let image: SampleImage;
let layer: Digest;
beforeEach(async () => {
  pool = new Pool(await TestAuthority.make());
  await Promise.all([pool.hub.start(), pool.registry.start()]);
  image = await buildImage({ layers: [{ bytes: 3_000_000, seed: 1 }] });
  pool.registry.addImage('lab/app', 'v1', image);
  layer = image.blobs[1]?.digest ?? image.digest;
});
afterEach(() => pool.close());

describe('a member with a good certificate that lies about pieces', () => {
  it.each(['unclaimed', 'claimed'] as const)(
    'by %s bytes is set aside, and the blob comes right from the registry',
    async (lie) => {
      const evil = await pool.liar({ lie });
      await pool.start(1, [EVIL]);
      await eventually(
        () => pool.blob(1, layer),
        (got) => got === layer,
        30_000,
      );
      expect(evil.asked).toBeGreaterThan(0);
      expect(await pool.evilAside(1)).toBe(true);
    },
    TEST_MS,
  );

  it.each([
    ['says that it has what it has not', {}],
    ['claims what is out of every bound', { claimed: Array.from({ length: 10_000 }, (_, n) => n) }],
    [
      'claims each piece for ever, ten thousand times',
      { whole: false, claimed: Array.from({ length: 10_000 }, (_, n) => n % 3) },
    ],
    ['weighs more than all others', { whole: false, weight: 100 }],
  ])(
    'and %s only costs time',
    async (_, more) => {
      const join = { onBlob: true, weight: 1, whole: true, have: '', claimed: [], ...more };
      await pool.liar({ lie: 'nothing', tell: { [PATHS.join]: join } });
      await pool.start(1, [EVIL]);
      expect(await pool.blob(1, layer)).toBe(layer);
    },
    TEST_MS,
  );
});

describe('a member with a good certificate that lies about tags, while the registry is away', () => {
  const records = (digest: Digest) => [
    { registry: 'reg.example', repository: 'lab/app', tag: 'v1', digest, originAt: Date.now() },
  ];

  it(
    'moves none: neither for who has a record, nor for who has none, whom a second member tells the truth',
    async () => {
      const other = await buildImage({ layers: [{ bytes: 1_000, seed: 7 }] });
      const tell = {
        [PATHS.tags]: records(other.digest),
        [PATHS.access]: { downSince: 1, patienceMs: 0 },
        [PATHS.holdings]: other.blobs.map(({ digest }) => digest),
      };
      await pool.liar({ lie: 'nothing', tell });
      await pool.start(1, [EVIL]);
      await pool.pull(1, image);
      await pool.start(2, [1, EVIL]);
      await pool.registry.stop();
      const own = await pool.mirror(1, 'manifests/v1');
      expect(own.headers.get('docker-content-digest')).toBe(image.digest);
      // Two of two members state two different things: neither is believed, and the refusal says so.
      const none = await pool.mirror(2, 'manifests/v1');
      const why = await none.text();
      expect(none.status).toBe(502);
      expect(why).toContain(`1 member states ${other.digest} (evil)`);
      expect(why).toContain(`1 member states ${image.digest} (n1)`);
      expect(why).toContain('tags.quorum');
      expect((await pool.mirror(2, `manifests/${image.digest}`)).status).toBe(200);
    },
    TEST_MS,
  );

  it(
    'and about sizes and holdings: what comes is right, or nothing does',
    async () => {
      const tell = {
        [PATHS.size]: { size: 77 },
        [PATHS.holdings]: [layer, image.digest],
        [PATHS.tags]: records(image.digest),
      };
      await pool.liar({ lie: 'claimed', tell });
      await pool.start(1, [EVIL]);
      await pool.pull(1, image);
      await pool.start(2, [1, EVIL]);
      await pool.registry.stop();
      await eventually(
        () => pool.blob(2, layer),
        (got) => got === layer,
        30_000,
      );
      const made = digestOf(Buffer.from('made up'));
      expect(await pool.blob(2, made)).toMatch(/^50\d: /);
    },
    TEST_MS,
  );
});

describe('a member with a good certificate that speaks for another', () => {
  it(
    'is not heard under that name, and takes nobody’s address',
    async () => {
      await pool.start(1, []);
      await pool.start(2, [1]);
      const signal = AbortSignal.timeout(10_000);
      const replayed = await pool.asking('n2', pool.peer(2));
      await expect(replayed.hello(pool.peer(1), signal)).rejects.toThrow(/403/);
      const squatter = await pool.asking('evil', pool.peer(2));
      for (let n = 0; n < 20; n++) await squatter.hello(pool.peer(1), signal);
      const { members } = await pool.status(1);
      expect(members.map(({ node, address, live }) => ({ node, address, live }))).toEqual([
        { node: 'n2', address: pool.peer(2), live: true },
      ]);
    },
    TEST_MS,
  );
});
