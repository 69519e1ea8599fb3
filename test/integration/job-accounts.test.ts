import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PlannedJob } from '../../cloud/prefetch/plan.ts';
import { HandedCredentials } from '../../cloud/trust/handed-credentials.ts';
import { JobAccounts } from '../../edge/identity/job-accounts.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { type ApiFixture, startApi } from '../support/api-fixture.ts';
import { TestAuthority, type TestIdentity } from '../support/trust.ts';

const [alpha, n1] = [parsePoolName('alpha'), parseNodeName('n1')];
const account = { username: 'puller', password: 'secret-of-the-puller' };
const job = {
  id: 'web',
  generation: 7,
  definition: { images: [{ image: 'r.test/team/web:1' }], pullSecrets: ['pull'] },
  messages: new Map([[alpha, { id: 'web', generation: 7, suspend: false }]]),
} as unknown as PlannedJob;

let root: string;
let f: ApiFixture;
let handed: HandedCredentials;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidepool-accounts-'));
  handed = new HandedCredentials({ clock: systemClock }, { file: path.join(root, 'handed.json') });
  const view = {
    membership: { nodes: new Map(), pools: new Map(), problems: [] },
    tuning: new Map(),
    jobs: new Map([['web', job]]),
    problems: [],
  };
  f = await startApi({
    components: {
      handed,
      secrets: { account: async () => account },
      reconciler: { view, tuning: { table: {}, texts: {}, problems: [] }, now: async () => undefined },
    },
  });
});
afterEach(async () => {
  await f.close();
  await rm(root, { recursive: true, force: true });
});

function ask(identity: TestIdentity, wanted = { id: 'web', generation: 7 }) {
  const accounts = new JobAccounts(
    { clock: systemClock, identity: Object.assign(identity, { pool: alpha }) },
    { node: n1, url: `https://${f.api.address}` },
  );
  return accounts.of(wanted, new AbortController().signal);
}

describe('accounts of a prefetch, from the hub to the agent', () => {
  it('arrive at the node that runs it, and the hub remembers', async () => {
    const found = await ask(await f.authority.node('n1', 'alpha'));
    expect([...found]).toEqual([['r.test', account]]);
    expect(handed.of(n1)).toMatchObject([{ secret: 'pull', registry: 'r.test', username: 'puller' }]);
  });

  it('are refused in the hub’s words, and none are asked of a hub that is none', async () => {
    const node = await f.authority.node('n1', 'alpha');
    await expect(ask(node, { id: 'web', generation: 6 })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(ask(node, { id: 'other', generation: 7 })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const elsewhere = await (await TestAuthority.make('another')).node('n1', 'alpha');
    await expect(ask(elsewhere)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
    f.hub.revoke(node.keyId);
    await expect(ask(node)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
    expect(handed.of(n1)).toEqual([]);
  });
});
