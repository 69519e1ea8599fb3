import Fastify from 'fastify';
import { describe, expect, it } from 'vitest';
import { addBrokerRoutes } from '../../../../cloud/api/broker-routes.ts';
import { runCli } from '../../../../cloud/cli/program.ts';
import { type NodeName, type PoolName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';

async function run(args: readonly string[], nodes: ReadonlyMap<NodeName, PoolName> | undefined) {
  const app = Fastify();
  addBrokerRoutes(app, {
    trust: nodes === undefined ? undefined : { book: { nodes: { enrolled: () => nodes } } },
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    let out = '';
    let err = '';
    const code = await runCli(['broker', 'acl', '--insecure', '--hub', url, ...args], '0', {
      stdout: {
        write: (text) => {
          out += text;
        },
      },
      stderr: {
        write: (text) => {
          err += text;
        },
      },
      signal: new AbortController().signal,
    });
    return { code, out, err };
  } finally {
    await app.close();
  }
}

describe('broker acl', () => {
  const nodes = new Map([
    [parseNodeName('n1'), parsePoolName('p')],
    [parseNodeName('b'.repeat(65)), parsePoolName('p')],
  ]);

  it('prints rules alone on standard output, and who is left out on the other', async () => {
    const { code, out, err } = await run([], nodes);
    expect(code).toBe(0);
    expect(out).toMatch(/^user tidepool hub\n/);
    expect(out).toContain('\ntopic read tidepool/v1/pools/p/#\n');
    expect(err).toMatch(/bbb is left out: .*64 characters/);
  });

  it('as JSON for dynamic security', async () => {
    const { out } = await run(['--format', 'dynsec'], nodes);
    const rules = JSON.parse(out);
    expect(rules.clients.map(({ username }: { username: string }) => username)).toEqual([
      'tidepool hub',
      'n1',
    ]);
    expect(rules.defaultACLAccess.publishClientSend).toBe(false);
  });

  it('says what is wrong: a format that is none, and a hub without identities', async () => {
    expect((await run(['--format', 'activemq'], nodes)).err).toMatch(/mosquitto, dynsec, emqx/);
    expect(await run([], undefined)).toMatchObject({ code: 1, err: expect.stringMatching(/409/) });
  });
});
