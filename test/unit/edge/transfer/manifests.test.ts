import { beforeEach, describe, expect, it } from 'vitest';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import type { ManifestRecord, TagRecord } from '../../../../edge/index/types.ts';
import type { OriginManifest } from '../../../../edge/origin/types.ts';
import type { AccessAnswer, Member, ToldTag } from '../../../../edge/peers/types.ts';
import { ContentScope } from '../../../../edge/transfer/access/content-scope.ts';
import { withResolvers } from '../../../../edge/transfer/flight.ts';
import { Manifests } from '../../../../edge/transfer/manifests.ts';
import { Patience } from '../../../../edge/transfer/patience.ts';
import { RegistryPace } from '../../../../edge/transfer/registry-pace.ts';
import { TransferStats } from '../../../../edge/transfer/stats.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { type Digest, digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { memoryIndex } from '../../../support/memory-index.ts';

const NAME = { registry: 'r.example', repository: 'app' };
const TYPE = 'application/vnd.oci.image.manifest.v1+json';

function documentOf(text: string, layers: readonly Digest[] = []): ManifestRecord {
  const bytes = Buffer.from(JSON.stringify({ text, layers: layers.map((digest) => ({ digest, size: 5 })) }));
  return { digest: digestOf(bytes), mediaType: TYPE, bytes };
}

const LAYER = digestOf(Buffer.from('layer'));
const IMAGE = documentOf('image', [LAYER]);
const OTHER = documentOf('other image');

/** A neighbour as far as manifests go. */
interface Neighbour {
  manifests: ManifestRecord[];
  tags: ToldTag[];
  holdings: Digest[];
  access: AccessAnswer;
  fails?: Error;
}

class Fixture {
  readonly index = memoryIndex();
  readonly scope = new ContentScope({ table: openIndex(':memory:', { log: silentLogger() }).scope });
  readonly stats = new TransferStats();
  readonly clock = new ManualClock();
  readonly neighbours = new Map<string, Neighbour>();
  readonly suspects: string[] = [];
  readonly asked: string[] = [];
  readonly manifests: Manifests;
  readonly pace: RegistryPace;
  readonly documents = openIndex(':memory:', { log: silentLogger() }).documents;
  /** What a record would have answered while the origin was slow, and what the tag was answered with. */
  expected: Digest | undefined;
  readonly answered: (Digest | undefined)[] = [];
  downSince: number | undefined;
  /** What the origin answers a question with; throws what it fails with. */
  origin: (reference: string, method: 'GET' | 'HEAD') => OriginManifest | Promise<OriginManifest> = () => {
    throw new TidepoolError('MANIFEST_UNKNOWN', 'no such manifest');
  };

  constructor() {
    const neighbour = (member: Member): Neighbour => {
      const found = this.neighbours.get(member.node);
      if (found === undefined) throw new Error(`no ${member.node}`);
      if (found.fails !== undefined) throw found.fails;
      return found;
    };
    const members = {
      live: () =>
        [...this.neighbours.keys()].map((node) => ({ node: parseNodeName(node), address: '10.0.0.1:1' })),
      suspect: (node: string) => void this.suspects.push(node),
    };
    const { documents } = this;
    this.pace = new RegistryPace({ documents, stats: this.stats, clock: this.clock });
    const client = { access: async (member: Member) => neighbour(member).access };
    const down = { downSince: () => this.downSince };
    this.manifests = new Manifests({
      patience: new Patience({ origin: down, client, members, pace: this.pace, clock: this.clock }),
      warmup: {
        whileQuiet: (_name, quiet, find) => {
          void quiet.then(async (is) => {
            if (is) this.expected = (await find())?.named;
          });
          return { answered: (digest) => void this.answered.push(digest) };
        },
      },
      index: this.index,
      store: { get: () => undefined },
      origin: {
        manifest: async ({ reference, method }) => {
          this.asked.push(`${method} ${reference}`);
          return this.origin(reference, method);
        },
      },
      client: {
        manifest: async (member, digest) =>
          neighbour(member).manifests.find((each) => each.digest === digest),
        tags: async (member) => neighbour(member).tags,
        holdings: async (member, digests) =>
          digests.filter((each) => neighbour(member).holdings.includes(each)),
      },
      members,
      scope: this.scope,
      provenance: { mayShare: () => true },
      stats: this.stats,
      clock: this.clock,
      log: silentLogger(),
    });
  }

  /** It has been fetched before, from this repository. */
  holds(record: ManifestRecord): void {
    this.index.manifests.put(record);
    this.scope.addManifest(NAME, record);
  }

  neighbour(name: string, has: Partial<Neighbour> = {}): void {
    this.neighbours.set(name, { manifests: [], tags: [], holdings: [], access: {}, ...has });
  }

  /** The origin has these, the first under the tag `v1`. */
  serve(...records: ManifestRecord[]): void {
    this.origin = (reference, method) => {
      const found = reference === 'v1' ? records[0] : records.find((each) => each.digest === reference);
      if (found === undefined) throw new TidepoolError('MANIFEST_UNKNOWN', 'no such manifest');
      const { digest, mediaType, bytes } = found;
      return { digest, mediaType, size: bytes.length, at: 7_000, ...(method === 'GET' ? { bytes } : {}) };
    };
  }

  silent(code: 'ORIGIN_UNREACHABLE' | 'ORIGIN_ERROR' = 'ORIGIN_UNREACHABLE'): void {
    this.origin = () => {
      throw new TidepoolError(code, 'silence');
    };
  }

  get(reference: string) {
    return this.manifests.get({ ...NAME, reference });
  }
}

function tagged(digest: Digest, originAt = 100): TagRecord {
  return { ...NAME, tag: 'v1', digest, originAt };
}

/** The origin answers nothing, as behind a cut uplink. */
function mute(fixture: Fixture): void {
  fixture.origin = () => new Promise(() => undefined);
}

let fixture: Fixture;
beforeEach(() => {
  fixture = new Fixture();
});

describe('a manifest by digest', () => {
  it('comes from here, else from a neighbour, else from the origin, and is kept with the sizes that it says', async () => {
    fixture.serve(IMAGE);
    fixture.neighbour('node-a', { manifests: [OTHER] });
    expect(await fixture.get(OTHER.digest)).toEqual(OTHER);
    expect(fixture.asked).toEqual([]);
    expect(await fixture.get(IMAGE.digest)).toEqual(IMAGE);
    expect(await fixture.get(IMAGE.digest)).toEqual(IMAGE);
    expect(fixture.asked).toEqual([`GET ${IMAGE.digest}`]);
    expect(fixture.stats.wanBytes).toBe(IMAGE.bytes.length);
    expect(fixture.index.sizes.get(LAYER)).toBe(5);
  });

  it('is fetched once for all who ask at the same time', async () => {
    fixture.serve(IMAGE);
    const answers = await Promise.all([1, 2, 3].map(() => fixture.get(IMAGE.digest)));
    expect(answers).toEqual([IMAGE, IMAGE, IMAGE]);
    expect(fixture.asked).toHaveLength(1);
  });

  it('comes past neighbours that do not answer, who are suspects then', async () => {
    fixture.serve(IMAGE);
    fixture.neighbour('node-a', { fails: new TidepoolError('PEER_UNREACHABLE', 'gone') });
    expect(await fixture.get(IMAGE.digest)).toEqual(IMAGE);
    expect(fixture.suspects).toEqual(['node-a']);
  });

  it('that lies about what it names is not kept', async () => {
    const liar = documentOf('liar');
    const bytes = Buffer.from('{"layers":[{"digest":"sha256:x","size":1}]}');
    const record = { ...liar, digest: digestOf(bytes), bytes };
    fixture.serve(record);
    await expect(fixture.get(record.digest)).rejects.toMatchObject({ code: 'ORIGIN_LIED' });
  });

  it.each(['v 1', '', 'sha256:12', '../x'])('is not looked for under %j', async (reference) => {
    await expect(fixture.get(reference)).rejects.toMatchObject({ code: expect.stringMatching(/^INVALID_/) });
    expect(fixture.asked).toEqual([]);
  });
});

describe('a tag', () => {
  it('is asked of the origin each time, and its manifest fetched once', async () => {
    fixture.serve(IMAGE, OTHER);
    for (let round = 0; round < 3; round++) expect(await fixture.get('v1')).toEqual(IMAGE);
    expect(fixture.asked).toEqual(['HEAD v1', `GET ${IMAGE.digest}`, 'HEAD v1', 'HEAD v1']);
    expect(fixture.manifests.records({ ...NAME, tag: 'v1' })).toEqual([tagged(IMAGE.digest, 7_000)]);
    fixture.serve(OTHER);
    expect(await fixture.get('v1')).toEqual(OTHER);
    expect(fixture.manifests.staleAnswers).toBe(0);
  });

  it('that the origin does not have is not there, whatever records say', async () => {
    fixture.neighbour('node-a', { tags: [tagged(IMAGE.digest)], manifests: [IMAGE], holdings: [LAYER] });
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    fixture.origin = () => {
      throw new TidepoolError('UNAUTHORIZED', 'who are you');
    };
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it.each(['ORIGIN_UNREACHABLE', 'ORIGIN_ERROR'] as const)(
    'is what members know whose image is whole within reach, when the origin is silent (%s)',
    async (code) => {
      fixture.silent(code);
      fixture.neighbour('node-a', {
        tags: [tagged(IMAGE.digest, 100), tagged(OTHER.digest, 50)],
        manifests: [IMAGE, OTHER],
      });
      // The newer one lacks its layer.
      expect(await fixture.get('v1')).toEqual({ ...OTHER, staleSince: 50 });
      fixture.neighbour('node-b', { holdings: [LAYER] });
      expect(await fixture.get('v1')).toEqual({ ...IMAGE, staleSince: 100 });
      expect(fixture.manifests.staleAnswers).toBe(2);
    },
  );

  it('is not moved by records of other tags', async () => {
    fixture.silent();
    const foreign = { ...tagged(OTHER.digest), tag: 'v2' };
    fixture.neighbour('node-a', { tags: [foreign], manifests: [OTHER] });
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
  });

  it('is as the own record says before what others say, and needs the quorum of those', async () => {
    fixture.silent();
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 2 });
    fixture.neighbour('node-a', { tags: [tagged(OTHER.digest, 900)], manifests: [OTHER] });
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
    fixture.neighbour('node-b', { tags: [tagged(OTHER.digest, 800)] });
    expect(await fixture.get('v1')).toMatchObject({ digest: OTHER.digest, staleSince: 800 });
    const own = documentOf('own');
    fixture.holds(own);
    fixture.index.tags.put(tagged(own.digest, 10));
    expect(await fixture.get('v1')).toMatchObject({ digest: own.digest, staleSince: 10 });
  });

  it('that no record answers is refused with who states what, and the setting that decides', async () => {
    fixture.silent();
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 2 });
    fixture.neighbour('node-a', { tags: [tagged(OTHER.digest, 900)], manifests: [OTHER] });
    const one = await fixture.get('v1').catch((error: unknown) => String(error));
    expect(one).toContain(`1 member states ${OTHER.digest} (node-a); 2 members have to state the same`);
    expect(one).toContain('tags.quorum');
    fixture.neighbour('node-b', { tags: [tagged(IMAGE.digest), tagged(IMAGE.digest)], manifests: [IMAGE] });
    fixture.neighbour('node-c', { tags: [tagged(IMAGE.digest)] });
    const whole = await fixture.get('v1').catch((error: unknown) => String(error));
    expect(whole).toContain(`2 members state ${IMAGE.digest} (node-b, node-c)`);
    expect(whole).toContain(`${IMAGE.digest} is not whole`);
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 1 });
    expect(await fixture.get('v1')).toMatchObject({ digest: OTHER.digest });
  });

  it('is what the hub pins, before all records, where that is whole within reach', async () => {
    fixture.silent();
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 2 });
    const own = documentOf('own');
    fixture.holds(own);
    fixture.index.tags.put(tagged(own.digest, 10));
    fixture.manifests.setPins([{ ...NAME, tag: 'v1', digest: IMAGE.digest }]);
    fixture.neighbour('node-a', { manifests: [IMAGE] });
    expect(await fixture.get('v1')).toMatchObject({ digest: own.digest });
    // One member is enough to have it from: the hub has said what it is.
    fixture.neighbour('node-a', { manifests: [IMAGE], holdings: [LAYER] });
    expect(await fixture.get('v1')).toMatchObject({ digest: IMAGE.digest, staleSince: fixture.clock.now() });
    fixture.manifests.setPins([{ ...NAME, tag: 'v2', digest: IMAGE.digest }]);
    expect(await fixture.get('v1')).toMatchObject({ digest: own.digest });
  });

  it('is not moved back by a member that dates an old record anew, nor by all that one may state', async () => {
    fixture.silent();
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 2 });
    const honest = { tags: [tagged(OTHER.digest, 800), tagged(IMAGE.digest, 100)] };
    fixture.neighbour('node-a', { ...honest, manifests: [OTHER, IMAGE], holdings: [LAYER] });
    fixture.neighbour('node-b', honest);
    fixture.neighbour('liar', { tags: [tagged(IMAGE.digest, fixture.clock.now() + 60_000)] });
    expect(await fixture.get('v1')).toMatchObject({ digest: OTHER.digest, staleSince: 800 });
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 1 });
    const many = Array.from({ length: 500 }, (_, n) => tagged(documentOf(`made up ${n}`).digest, 900));
    fixture.neighbours.clear();
    fixture.neighbour('liar', { tags: [...many, tagged(OTHER.digest)], manifests: [OTHER] });
    await expect(fixture.get('v1')).rejects.toThrow('is not whole');
  });

  it('is fresh or an error where the policy says so; pinned once known where it says that', async () => {
    fixture.serve(IMAGE, OTHER);
    await fixture.get('v1');
    fixture.silent();
    fixture.manifests.configure({ policy: 'fresh', quorum: 1 });
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
    fixture.serve(OTHER);
    fixture.manifests.configure({ policy: 'pinned', quorum: 1 });
    const before = fixture.asked.length;
    expect(await fixture.get('v1')).toEqual(IMAGE);
    expect(fixture.asked).toHaveLength(before);
  });

  it('is not waited for longer than a person would: an origin that says nothing is silent', async () => {
    fixture.holds(OTHER);
    fixture.index.tags.put(tagged(OTHER.digest, 10));
    fixture.origin = () => new Promise(() => undefined);
    const answer = fixture.get('v1');
    await new Promise((resolve) => setImmediate(resolve));
    fixture.clock.advance(5_000);
    expect(await answer).toMatchObject({ digest: OTHER.digest, staleSince: 10 });
    // The question itself goes on for a moment: what comes of it is for those that follow.
    fixture.clock.advance(1_000);
    await settled();
    expect(fixture.clock.timers).toBe(0);
  });

  it('of an index is there when one of its platforms is', async () => {
    fixture.silent();
    const bytes = Buffer.from(
      JSON.stringify({ manifests: [IMAGE, OTHER].map(({ digest }) => ({ digest, size: 9 })) }),
    );
    const index = { digest: digestOf(bytes), mediaType: TYPE, bytes };
    fixture.neighbour('node-a', { tags: [tagged(index.digest)], manifests: [index] });
    await expect(fixture.get('v1')).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
    fixture.neighbour('node-b', { manifests: [OTHER] });
    expect(await fixture.get('v1')).toMatchObject({ digest: index.digest });
  });
});

describe('a registry that does not answer', () => {
  const holder = { manifests: [IMAGE], holdings: [LAYER], tags: [tagged(IMAGE.digest)] };
  const lost = { downSince: 5 };

  it('is not waited for where a neighbour says that it cannot reach it either', async () => {
    mute(fixture);
    fixture.neighbour('node-a', { ...holder, access: lost });
    const answer = fixture.get('v1');
    await advance(250);
    expect(await answer).toMatchObject({ digest: IMAGE.digest, staleSince: 100 });
    expect(fixture.manifests.staleAnswers).toBe(1);
  });

  it('is waited for where neighbours reach it, or fewer than may move a tag do not', async () => {
    mute(fixture);
    fixture.manifests.configure({ policy: 'stale-if-offline', quorum: 2 });
    fixture.neighbour('node-a', { ...holder, access: lost });
    fixture.neighbour('node-b', holder);
    const answer = watched(fixture.get('v1'));
    await advance(4_900);
    expect(answer.ended).toBe(false);
    await advance(200);
    expect(await answer.promise).toMatchObject({ digest: IMAGE.digest });
  });

  it('is waited for no longer than it has been taking, and its word counts when it comes late', async () => {
    fixture.pace.answered(NAME.registry, 500);
    const late = withResolvers<OriginManifest>();
    fixture.origin = () => late.promise;
    fixture.neighbour('node-a', holder);
    const answer = watched(fixture.get('v1'));
    await advance(300);
    expect(fixture.expected).toBeUndefined();
    await advance(1_100);
    // A quarter of that time was enough to expect the worst.
    expect([answer.ended, fixture.expected]).toEqual([false, IMAGE.digest]);
    await advance(150);
    expect(await answer.promise).toMatchObject({ digest: IMAGE.digest, staleSince: 100 });
    expect(fixture.answered).toEqual([IMAGE.digest, undefined]);
    await advance(1_000);
    late.resolve({ digest: OTHER.digest, mediaType: TYPE, size: OTHER.bytes.length, at: 20 });
    await expect
      .poll(() => fixture.index.tags.list(NAME.registry, NAME.repository, 'v1')[0]?.digest)
      .toBe(OTHER.digest);
    // It takes longer now: the next question is not given up so soon.
    expect(fixture.pace.patienceMs(NAME.registry)).toBe(5_000);
  });

  it('is waited for where the policy wants nothing but its word', async () => {
    fixture.pace.answered(NAME.registry, 1);
    fixture.manifests.configure({ policy: 'fresh', quorum: 1 });
    const late = withResolvers<OriginManifest>();
    fixture.origin = () => late.promise;
    fixture.holds(OTHER);
    const answer = fixture.get('v1');
    await advance(4_000);
    late.resolve({ digest: OTHER.digest, mediaType: TYPE, size: OTHER.bytes.length, at: 20 });
    expect((await answer).staleSince).toBeUndefined();
  });

  it('has the last word whenever it does answer', async () => {
    fixture.serve(OTHER, IMAGE);
    fixture.neighbour('node-a', { ...holder, access: lost });
    expect((await fixture.get('v1')).digest).toBe(OTHER.digest);
  });

  it('is not waited for at all while it is known to be down, and its word is kept when it comes', async () => {
    const late = withResolvers<OriginManifest>();
    fixture.origin = () => late.promise;
    fixture.downSince = 5;
    fixture.holds(OTHER);
    fixture.index.tags.put(tagged(OTHER.digest, 10));
    expect(await fixture.get('v1')).toMatchObject({ digest: OTHER.digest, staleSince: 10 });
    late.resolve({ digest: IMAGE.digest, mediaType: TYPE, size: IMAGE.bytes.length, at: 20 });
    await expect
      .poll(() => fixture.index.tags.list(NAME.registry, NAME.repository, 'v1')[0]?.digest)
      .toBe(IMAGE.digest);
  });

  it('is waited for, though it is known to be down, by whom no record can answer', async () => {
    fixture.downSince = 5;
    fixture.serve(OTHER, IMAGE);
    expect((await fixture.get('v1')).digest).toBe(OTHER.digest);
    fixture.silent();
    await expect(fixture.get('v2')).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
  });
});

/** Time goes by in small steps, as timers make timers. */
async function advance(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 50) {
    await settled();
    fixture.clock.advance(Math.min(50, left));
  }
  await settled();
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function watched<T>(promise: Promise<T>): { readonly promise: Promise<T>; readonly ended: boolean } {
  const state = { promise, ended: false };
  const end = (): void => {
    state.ended = true;
  };
  promise.then(end, end);
  return state;
}
