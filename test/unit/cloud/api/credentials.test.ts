import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ApiComponents } from '../../../../cloud/api/types.ts';
import type { PlannedJob } from '../../../../cloud/prefetch/plan.ts';
import { HandedCredentials } from '../../../../cloud/trust/handed-credentials.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { makeSealKey, openSealed } from '../../../../shared/trust/seal.ts';
import type { ApiError } from '../../../../shared/wire/api.ts';
import { credentialContext } from '../../../../shared/wire/credentials.ts';
import { type ApiFixture, startApi } from '../../../support/api-fixture.ts';
import { DAY_MS, TestAuthority } from '../../../support/trust.ts';

const [alpha, n1] = [parsePoolName('alpha'), parseNodeName('n1')];
const key = makeSealKey();
const PASSWORD = 'a-password-of-a-registry';

/** A prefetch of private images for n1 of alpha, by two secrets of which the second fits. */
const job = {
  id: 'web',
  generation: 7,
  definition: {
    images: [{ image: 'r.test/team/web:1' }, { image: 'r.test/team/api:1' }, { image: 'public.test/x:1' }],
    pullSecrets: ['first', 'second'],
  },
  messages: new Map([[alpha, { id: 'web', generation: 7, nodes: ['n1'], suspend: false }]]),
} as unknown as PlannedJob;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-handed-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

let open: ApiFixture | undefined;
let asked: string[] = [];
afterEach(async () => {
  await open?.close();
  open = undefined;
});

async function start(): Promise<ApiFixture> {
  asked = [];
  const components: Partial<ApiComponents> = {
    reconciler: {
      view: {
        membership: { nodes: new Map(), pools: new Map(), problems: [] },
        tuning: new Map(),
        jobs: new Map([['web', job]]),
        problems: [],
      },
      tuning: { table: {}, texts: {}, problems: [] },
      now: async () => undefined,
    },
    secrets: {
      account: async (secrets, registry) => {
        asked.push(`${secrets} ${registry}`);
        return secrets[0] === 'second' && registry === 'r.test'
          ? { username: 'puller', password: PASSWORD }
          : undefined;
      },
    },
  };
  const handed = new HandedCredentials(
    { clock: systemClock },
    { file: path.join(directory, `${++count}.json`) },
  );
  open = await startApi({ components: { ...components, handed } });
  await handed.start();
  return open;
}
let count = 0;
const body = (more: object = {}): object => ({ job: 'web', generation: 7, sealKey: key.publicKey, ...more });

describe('accounts for a prefetch', () => {
  it('go to the node that runs it, sealed, and it is remembered who had them', async () => {
    const f = await start();
    const node = await f.authority.node('n1', 'alpha');
    const answer = await f.ask('POST', '/v1/node/credentials', { as: node, body: body() });
    expect(answer.status).toBe(200);
    const { sealed } = answer.json as { sealed: string };
    expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain(PASSWORD);
    const context = credentialContext({ pool: alpha, node: n1, job: 'web', generation: 7 });
    expect(JSON.parse(openSealed(sealed, key.privateKey, context).toString())).toEqual({
      registries: { 'r.test': { username: 'puller', password: PASSWORD } },
    });
    expect(asked).toEqual(['first r.test', 'second r.test', 'first public.test', 'second public.test']);

    const token = await f.token('admin');
    const had = await f.ask('GET', '/v1/nodes/n1/credentials', { token });
    expect(had.json).toMatchObject([{ secret: 'second', registry: 'r.test', username: 'puller' }]);
    expect((await f.ask('GET', '/v1/nodes/n1/credentials', { token: await f.token('operate') })).status).toBe(
      403,
    );
    const [told] = await f.audit.read();
    expect(told).toMatchObject({ who: 'node:n1', object: '/v1/node/credentials job=web', outcome: 'done' });
    expect(await readFile(path.join(f.data, 'audit.log'), 'utf8')).not.toContain(PASSWORD);
  });

  it('go to nobody else', async () => {
    const f = await start();
    const { authority } = f;
    const refusal = async (as: Awaited<ReturnType<TestAuthority['node']>> | undefined, more: object = {}) => {
      const answer = await f.ask('POST', '/v1/node/credentials', {
        ...(as === undefined ? {} : { as }),
        body: body(more),
      });
      return `${answer.status} ${(answer.json as ApiError).error.code}`;
    };
    expect(await refusal(undefined)).toBe('401 UNAUTHORIZED');
    expect(await refusal(await authority.node('n2', 'alpha'))).toBe('404 NOT_FOUND');
    expect(await refusal(await authority.node('n1', 'beta'))).toBe('404 NOT_FOUND');
    expect(await refusal(await authority.hub())).toBe('403 DENIED');
    const old = { issuedAt: Date.now() - 91 * DAY_MS };
    expect(await refusal(await authority.node('n1', 'alpha', old))).toBe('403 CERTIFICATE_REFUSED');
    const other = await TestAuthority.make('test authority');
    expect(await refusal(await other.node('n1', 'alpha'))).toBe('403 CERTIFICATE_REFUSED');
    const node = await authority.node('n1', 'alpha');
    expect(await refusal(node, { job: 'other' })).toBe('404 NOT_FOUND');
    expect(await refusal(node, { generation: 6 })).toBe('409 CONFLICT');
    expect(await refusal(node, { sealKey: 'x' })).toBe('400 INVALID_ARGUMENT');
    const token = await f.token('admin');
    expect((await f.ask('POST', '/v1/node/credentials', { token, body: body() })).status).toBe(401);
    expect(asked).toEqual([]);
  });
});

it('who had which account outlives the hub, without what is secret', async () => {
  const file = path.join(directory, 'kept.json');
  const first = new HandedCredentials({ clock: systemClock }, { file });
  await first.start();
  const account = { secret: 's', registry: 'r.test', username: 'u' };
  await Promise.all([first.record(n1, [account]), first.record(parseNodeName('n2'), [account])]);
  await first.record(n1, [{ ...account, username: 'v' }]);
  await first.stop();
  const second = new HandedCredentials({ clock: systemClock }, { file });
  await second.start();
  expect(second.of(n1).map(({ username }) => username)).toEqual(['u', 'v']);
  expect(second.of(parseNodeName('n2'))).toMatchObject([account]);
});
