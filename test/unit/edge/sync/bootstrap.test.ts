import { describe, expect, it } from 'vitest';
import { bootstrapProblem } from '../../../../edge/sync/bootstrap.ts';
import { HubLink } from '../../../../edge/sync/hub-link.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { signMessage } from '../../../../shared/trust/envelope.ts';
import type { TlsIdentity } from '../../../../shared/trust/types.ts';
import { encode } from '../../../../shared/wire/messages/codec.ts';
import { topics } from '../../../../shared/wire/topics.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const pool = parsePoolName('shop');
const n1 = parseNodeName('n1');

interface Made {
  readonly epoch?: number;
  readonly nodes?: readonly string[];
  readonly jobs?: readonly string[];
  readonly signer?: TestIdentity;
  readonly change?: (file: Record<string, unknown>) => void;
}

/** As a hub writes it. */
function fileOf({ epoch = 9, nodes = ['n1', 'n2'], jobs = ['job'], signer, change }: Made = {}): Buffer {
  const roots = [signer?.current().ca ?? 'no root'];
  const image = { image: `r.test/a@sha256:${'a'.repeat(64)}` };
  const bodies: (readonly [string, object])[] = [
    [topics.trust(pool), { epoch, version: 3, roots, revoked: [] }],
    [
      topics.roster(pool, 0),
      {
        epoch,
        version: 4,
        shard: 0,
        shards: 1,
        nodes: nodes.map((node) => ({ node, address: '10.0.0.2:6181' })),
      },
    ],
    [topics.tuning(pool), { epoch, version: 5, hash: `h${epoch}`, settings: {} }],
    ...jobs.map(
      (id) => [topics.prefetch(pool, id), { epoch, id, version: 1, generation: 1, images: [image] }] as const,
    ),
    [topics.prefetchIndex(pool), { epoch, version: 6, ids: [...jobs] }],
  ];
  const messages = bodies.map(([topic, body]) => {
    const plain = encode(body);
    const payload = signer === undefined ? plain : signMessage(topic, plain, signer.current());
    return { topic, payload: payload.toString('base64') };
  });
  const file = { tidepool: 'bootstrap', version: 1, pool, at: 1, signed: signer !== undefined, messages };
  change?.(file);
  return Buffer.from(JSON.stringify(file));
}

function open(documents = new MemoryDocuments(), identity?: TlsIdentity) {
  const link = new HubLink(
    { documents, clock: systemClock, log: silentLogger(), identity },
    {
      urls: [],
      node: n1,
      pool,
      bootId: 'b',
      address: '10.0.0.1:6181',
      version: '1',
      platform: 'linux/amd64',
    },
  );
  const told: number[] = [];
  const take = (file: Buffer) => link.bootstrap(file, ({ version }) => told.push(version));
  const seen = () => {
    const found: { roster: string[]; tuning: string | undefined; jobs: string[] } = {
      ...{ roster: [], tuning: undefined, jobs: [] },
    };
    link.onRoster(({ nodes }) => {
      found.roster = nodes.map(({ node }) => node);
    })();
    link.onTuning(({ hash }) => {
      found.tuning = hash;
    })();
    link.onPrefetch((jobs) => {
      found.jobs = jobs.map(({ id }) => id);
    })();
    return found;
  };
  return { link, take, seen, told };
}

const ALL = { roster: ['n1', 'n2'], tuning: 'h9', jobs: ['job'] };
const NOTHING = { roster: [], tuning: undefined, jobs: [] };
const messagesOf = (file: Record<string, unknown>) => file.messages as { topic: string; payload: string }[];

describe('a bootstrap file', () => {
  it('is what the hub would say, kept over a restart, and taken once', () => {
    const documents = new MemoryDocuments();
    const agent = open(documents);
    expect(agent.take(fileOf())).toEqual({ epoch: 9, nodes: 2, jobs: 1 });
    expect(agent.seen()).toEqual(ALL);
    expect(agent.take(fileOf())).toBeUndefined();
    expect(open(documents).seen()).toEqual(ALL);
    expect(open(documents).link.epoch).toBe(9);
  });

  it('counts only where it is newer than what the disk has, and takes back jobs that it does not name', () => {
    const agent = open();
    agent.take(fileOf());
    expect(agent.take(fileOf({ epoch: 8, nodes: ['n9'] }))).toBeUndefined();
    expect(agent.seen()).toEqual(ALL);
    expect(agent.take(fileOf({ epoch: 10, nodes: ['n1'], jobs: ['other'] }))).toMatchObject({ epoch: 10 });
    expect(agent.seen()).toEqual({ roster: ['n1'], tuning: 'h10', jobs: ['other'] });
  });

  it('is believed where the hub has signed it, and nowhere else', async () => {
    const authority = await TestAuthority.make();
    const [hub, node, stranger] = [
      await authority.hub(),
      await authority.node('n1', 'shop'),
      await (await TestAuthority.make('another')).hub(),
    ];
    const agent = open(new MemoryDocuments(), node);
    expect(() => agent.take(fileOf())).toThrow(/nobody has signed it.*--insecure/);
    expect(() => agent.take(fileOf({ signer: stranger }))).toThrow(
      expect.objectContaining({ code: 'CERTIFICATE_REFUSED' }),
    );
    expect(() => agent.take(fileOf({ signer: node }))).toThrow(
      expect.objectContaining({ code: 'CERTIFICATE_REFUSED' }),
    );
    const swap = (file: Record<string, unknown>): void => {
      const [a, b] = messagesOf(file);
      if (a !== undefined && b !== undefined) [a.payload, b.payload] = [b.payload, a.payload];
    };
    expect(() => agent.take(fileOf({ signer: hub, change: swap }))).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_WRONG' }),
    );
    expect([agent.seen(), agent.told]).toEqual([NOTHING, []]);
    expect(agent.take(fileOf({ signer: hub }))).toEqual({ epoch: 9, nodes: 2, jobs: 1 });
    expect([agent.seen(), agent.told]).toEqual([ALL, [3]]);
    // Where nobody asks for signatures they do no harm.
    expect(open().take(fileOf({ signer: hub }))).toMatchObject({ epoch: 9 });
  });

  it.each<[string, Buffer, RegExp]>([
    ['half of one', fileOf().subarray(0, 300), /not JSON/],
    ['something else', Buffer.from('{"tidepool": "backup"}'), /tidepool/],
    ['of another pool', fileOf({ change: (file) => Object.assign(file, { pool: 'beta' }) }), /for pool beta/],
    ['with a message twice', fileOf({ change: (f) => messagesOf(f).push({ ...first(f) }) }), /twice/],
    [
      'that speaks to nodes',
      fileOf({ change: (f) => Object.assign(first(f), { topic: topics.command(n1) }) }),
      /nothing that pool shop is told/,
    ],
    [
      'with one part that is rubbish',
      fileOf({ change: (f) => Object.assign(messagesOf(f)[2] ?? {}, { payload: 'e30=' }) }),
      /tuning: epoch/,
    ],
    [
      'with a part of another time',
      fileOf({ change: (f) => messagesOf(f).splice(3, 1, ...jobOf(fileOf({ epoch: 8 }))) }),
      /different times/,
    ],
    ['without neighbours', fileOf({ change: (f) => messagesOf(f).splice(1, 1) }), /not whole/],
  ])('%s is refused whole', (_, file, why) => {
    const agent = open();
    expect(() => agent.take(file)).toThrow(why);
    expect(agent.seen()).toEqual(NOTHING);
    expect(agent.link.epoch).toBe(0);
    const problem = bootstrapProblem('/x', pool, new Error('why'));
    expect(problem).toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringContaining('pools bootstrap shop'),
    });
  });
});

function first(file: Record<string, unknown>): { topic: string; payload: string } {
  const [message] = messagesOf(file);
  if (message === undefined) throw new Error('it says nothing');
  return message;
}

function jobOf(file: Buffer): { topic: string; payload: string }[] {
  return messagesOf(JSON.parse(file.toString()) as Record<string, unknown>).filter(({ topic }) =>
    topic.endsWith('/job'),
  );
}
