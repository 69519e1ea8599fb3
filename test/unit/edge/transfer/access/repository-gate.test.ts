import { beforeEach, describe, expect, it } from 'vitest';
import { openIndex } from '../../../../../edge/index/sqlite-index.ts';
import type { Credentials, OriginRequest } from '../../../../../edge/origin/types.ts';
import type { AccessAnswer } from '../../../../../edge/peers/types.ts';
import { ContentScope } from '../../../../../edge/transfer/access/content-scope.ts';
import { GrantBook } from '../../../../../edge/transfer/access/grant-book.ts';
import { RepositoryGate } from '../../../../../edge/transfer/access/repository-gate.ts';
import { Patience } from '../../../../../edge/transfer/patience.ts';
import { RegistryPace } from '../../../../../edge/transfer/registry-pace.ts';
import { TransferStats } from '../../../../../edge/transfer/stats.ts';
import { type ErrorCode, TidepoolError } from '../../../../../shared/errors.ts';
import { digestOf, parseNodeName, parsePoolName } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

const NAME = { registry: 'r.example', repository: 'app' };
const ACCOUNT: Credentials = { username: 'puller', password: 'right' };
const WRONG: Credentials = { username: 'puller', password: 'guess' };
const DIGEST = digestOf(Buffer.from('blob'));
const BLOB = { digest: DIGEST, kind: 'blob' } as const;
const MINUTE_MS = 60_000;

class Fixture {
  readonly clock = new ManualClock();
  readonly index = openIndex(':memory:', { log: silentLogger() });
  readonly asked: string[] = [];
  readonly gate: RepositoryGate;
  readonly grants: GrantBook;
  /** What the registry says to whoever asks; undefined: yes. */
  origin: (credentials: Credentials | undefined) => ErrorCode | undefined = () => undefined;
  tagsStatus = 200;
  downSince: number | undefined;
  neighbour: AccessAnswer = {};

  constructor() {
    const { clock, index } = this;
    const answer = async (what: string, request: OriginRequest): Promise<void> => {
      this.asked.push(what);
      expect(request.exact).toBe(true);
      const code = this.origin(request.credentials);
      if (code !== undefined) throw new TidepoolError(code, 'as the registry says');
    };
    const members = {
      self: parseNodeName('node-1'),
      pool: parsePoolName('shop'),
      live: () => [{ node: parseNodeName('node-2'), address: '10.0.0.2:1' }],
      suspect: () => undefined,
    };
    const client = { access: async () => this.neighbour, grants: async () => undefined };
    const pace = new RegistryPace({ documents: index.documents, stats: new TransferStats(), clock });
    const origin = { downSince: () => this.downSince };
    const patience = new Patience({ origin, client, members, pace, clock });
    this.grants = new GrantBook({ table: index.grants, client, members, clock, log: silentLogger() });
    this.gate = new RepositoryGate({
      scope: new ContentScope({ table: index.scope }),
      table: index.scope,
      grants: this.grants,
      origin: {
        manifest: async (request) => {
          await answer('manifest', request);
          return { digest: DIGEST, mediaType: 'x', size: 1, at: 1 };
        },
        blobSize: async (request) => {
          await answer('blob', request);
          return 4;
        },
        passThrough: async () => {
          this.asked.push('tags');
          return { status: this.tagsStatus, headers: {}, body: new Uint8Array() };
        },
        downSince: () => this.downSince,
      },
      patience,
      pace,
      client,
      members,
      clock,
      log: silentLogger(),
    });
  }

  check(credentials?: Credentials): Promise<void> {
    return this.gate.check({ ...NAME, ...(credentials === undefined ? {} : { credentials }) }, BLOB);
  }

  async code(credentials?: Credentials): Promise<string> {
    return this.check(credentials).then(
      () => 'let in',
      (error: unknown) => (error instanceof TidepoolError ? error.code : String(error)),
    );
  }

  private(): void {
    this.origin = (credentials) => (credentials === ACCOUNT ? undefined : 'UNAUTHORIZED');
  }
}

let fixture: Fixture;
beforeEach(() => {
  fixture = new Fixture();
});

describe('a registry that answers', () => {
  it('is asked once for an open repository, and again minutes later', async () => {
    for (let n = 0; n < 20; n++) expect(await fixture.code(n % 2 === 0 ? undefined : ACCOUNT)).toBe('let in');
    expect(fixture.asked).toEqual(['blob']);
    expect(fixture.grants.scrypts).toBe(0);
    await fixture.clock.advance(5 * MINUTE_MS + 1);
    expect(await fixture.code()).toBe('let in');
    expect(fixture.asked).toEqual(['blob', 'blob']);
  });

  it('is asked once for an account, which opens nothing to others', async () => {
    fixture.private();
    for (let n = 0; n < 20; n++) expect(await fixture.code(ACCOUNT)).toBe('let in');
    expect(fixture.asked).toHaveLength(1);
    expect([await fixture.code(), await fixture.code(WRONG)]).toEqual(['UNAUTHORIZED', 'UNAUTHORIZED']);
    await expect.poll(() => fixture.grants.scrypts).toBeLessThanOrEqual(2);
  });

  it('sends whoever it denies without an account for one', async () => {
    fixture.origin = () => 'DENIED';
    expect([await fixture.code(), await fixture.code(ACCOUNT)]).toEqual(['UNAUTHORIZED', 'DENIED']);
  });

  it('that has the content no more is asked whether the repository may be read', async () => {
    fixture.origin = () => 'BLOB_UNKNOWN';
    expect(await fixture.code()).toBe('let in');
    expect(fixture.asked).toEqual(['blob', 'tags']);
    await fixture.clock.advance(6 * MINUTE_MS);
    fixture.tagsStatus = 404;
    expect(await fixture.code()).toBe('BLOB_UNKNOWN');
  });

  it('closes what it had open', async () => {
    expect(await fixture.code()).toBe('let in');
    await fixture.clock.advance(6 * MINUTE_MS);
    fixture.private();
    expect(await fixture.code()).toBe('UNAUTHORIZED');
    fixture.origin = () => 'ORIGIN_UNREACHABLE';
    expect(await fixture.code()).toBe('UNAUTHORIZED');
  });
});

describe('a registry that cannot be asked', () => {
  const away = (): void => {
    fixture.origin = () => 'ORIGIN_UNREACHABLE';
  };

  it('said last that a repository is open: that holds', async () => {
    await fixture.check();
    await fixture.clock.advance(900 * MINUTE_MS);
    away();
    expect([await fixture.code(), await fixture.code(WRONG)]).toEqual(['let in', 'let in']);
  });

  it('took an account: that holds for a week, by one hash', async () => {
    fixture.private();
    await fixture.check(ACCOUNT);
    await expect
      .poll(async () => fixture.grants.grantedAt(await fixture.grants.id(NAME, ACCOUNT)))
      .toBeDefined();
    away();
    await fixture.clock.advance(6 * 24 * 60 * MINUTE_MS);
    expect(await fixture.code(ACCOUNT)).toBe('let in');
    expect(fixture.grants.scrypts).toBe(1);
    expect([await fixture.code(), await fixture.code(WRONG)]).toEqual(['UNAUTHORIZED', 'UNAUTHORIZED']);
    await fixture.clock.advance(2 * 24 * 60 * MINUTE_MS);
    expect(await fixture.code(ACCOUNT)).toBe('UNAUTHORIZED');
  });

  it('told a neighbour: its word is taken for an account or for all, and refusals are not asked again at once', async () => {
    away();
    expect([await fixture.code(), await fixture.code(WRONG), await fixture.code(WRONG)]).toEqual(
      Array(3).fill('UNAUTHORIZED'),
    );
    expect(fixture.grants.scrypts).toBe(1);
    fixture.neighbour = { grantedAt: fixture.clock.now() };
    expect([await fixture.code(ACCOUNT), await fixture.code()]).toEqual(['let in', 'UNAUTHORIZED']);
    await fixture.clock.advance(MINUTE_MS);
    fixture.neighbour = { openAt: fixture.clock.now() };
    expect(await fixture.code()).toBe('let in');
  });

  it('said later here that it is closed than it said there that it is open', async () => {
    fixture.neighbour = { openAt: fixture.clock.now() + 1 };
    await fixture.clock.advance(MINUTE_MS);
    fixture.index.scope.setAccess(NAME, { openAt: 1, closedAt: fixture.clock.now() });
    away();
    expect(await fixture.code()).toBe('UNAUTHORIZED');
  });

  it('is not waited for while it is known to be down, except by whom nothing else lets in', async () => {
    expect(await fixture.code(ACCOUNT)).toBe('let in');
    fixture.clock.advance(60 * MINUTE_MS);
    fixture.downSince = 5;
    fixture.origin = (credentials) => (credentials === ACCOUNT ? undefined : 'UNAUTHORIZED');
    expect(await fixture.code(ACCOUNT)).toBe('let in');
    expect(await fixture.code(WRONG)).toBe('UNAUTHORIZED');
    // It is back, though nobody has noticed: its word counts for whom no grant is known.
    fixture.origin = () => undefined;
    fixture.clock.advance(60 * MINUTE_MS);
    expect(await fixture.code({ username: 'new', password: 'right' })).toBe('let in');
    fixture.origin = () => 'ORIGIN_UNREACHABLE';
    expect(await fixture.code({ username: 'other', password: 'x' })).toBe('UNAUTHORIZED');
  });

  it('is not asked for leave where the pool lets in whoever reaches the node, and only while that is so', async () => {
    away();
    fixture.gate.configure({ offlineAccess: 'node', quorum: 1 });
    expect(await fixture.code()).toBe('let in');
    fixture.gate.configure({ offlineAccess: 'granted', quorum: 1 });
    expect(await fixture.code()).toBe('UNAUTHORIZED');
    fixture.gate.configure({ offlineAccess: 'node', quorum: 1 });
    fixture.private();
    expect(await fixture.code()).toBe('UNAUTHORIZED');
  });
});
