/** A broker that is not the hub's own, and proves itself by what the site gave it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadHubSettings, type WrittenSettings } from '../../cloud/config/settings.ts';
import { brokerAcl } from '../../cloud/trust/broker-acl.ts';
import type { AgentStatus } from '../../edge/ops/api.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { CliCapture } from '../support/cli-capture.ts';
import { eventually } from '../support/hub-fixture.ts';
import { type SecureHub, startSecureHub } from '../support/hub-trust.ts';
import { NO_MOSQUITTO, startMosquitto } from '../support/mosquitto.ts';
import { TestAuthority } from '../support/trust.ts';

const TEST_MS = 120_000;
const NODE = 'n1';

if (NO_MOSQUITTO !== undefined) {
  describe('a broker of the site', () => {
    it.skip(`not run: ${NO_MOSQUITTO}`, () => undefined);
  });
} else {
  describe('a broker of the site', () => {
    let directory: string;
    let authority: TestAuthority;
    let site: TestAuthority;
    const file = (name: string, text: string): string => {
      const full = path.join(directory, name);
      writeFileSync(full, text, { mode: 0o600 });
      return full;
    };
    beforeAll(async () => {
      directory = mkdtempSync(path.join(tmpdir(), 'broker-elsewhere-'));
      authority = await TestAuthority.make();
      site = await TestAuthority.make('authority of the site');
    });
    afterAll(() => rmSync(directory, { recursive: true, force: true }));

    /** Over an authority that somebody else made; the broker has to know it before the hub is there. */
    async function startHub(flags: WrittenSettings): Promise<SecureHub> {
      const settings = await loadHubSettings(flags, undefined);
      return await startSecureHub({
        trust: {
          caCert: file('ca.pem', authority.root.cert),
          caKey: file('ca.key', authority.root.key),
        },
        settings: { broker: settings.broker, brokerTrust: settings.brokerTrust },
      });
    }

    async function statusOf(agent: CliCapture): Promise<AgentStatus | undefined> {
      const up = agent.stderr.split('\n').find((line) => line.includes('"agent is up"'));
      if (up === undefined) return undefined;
      const { ops } = JSON.parse(up) as { readonly ops: string };
      return (await (await fetch(`http://${ops}/v1/status`)).json()) as AgentStatus;
    }

    it.each([
      ['with a certificate of the site’s authority', 'ca', async () => (await site.hub()).current()],
      [
        'with the certificate of a node of ours',
        'node',
        async () => (await authority.node('broker-1', 'brokers')).current(),
      ],
    ] as const)(
      '%s carries what hub and agents say when both are told, and nothing otherwise',
      async (_name, way, shown) => {
        const siteCa = file('site.pem', site.root.cert);
        const nodes = new Map([[parseNodeName(NODE), parsePoolName('shop-1')]]);
        const broker = await startMosquitto({
          ...(await shown()),
          roots: authority.root.cert,
          rules: brokerAcl('mosquitto', nodes).text,
        });
        const url = `mqtts://127.0.0.1:${broker.port}`;
        const closing: (() => Promise<unknown>)[] = [() => broker.close()];
        try {
          const hub = await startHub({
            broker: url,
            ...(way === 'ca' ? { brokerCa: siteCa } : { brokerNode: 'broker-1' }),
          });
          closing.unshift(() => hub.close());
          const files = { '/site.pem': site.root.cert };
          const run = async (name: string, more: readonly string[]): Promise<CliCapture> => {
            const agent = new CliCapture({ files });
            const ended = agent.run(
              'run',
              `--node=${NODE}`,
              '--address=127.0.0.1',
              '--mirror=127.0.0.1:0',
              '--peer-port=0',
              '--ops=127.0.0.1:0',
              '--cri=none',
              `--data=${path.join(directory, `${way}-${name}`)}`,
              `--hub=${url}`,
              `--enroll-url=${hub.url}`,
              `--join=${await hub.token('shop-1')}`,
              '--replace',
              ...more,
            );
            closing.unshift(() => {
              agent.stop();
              return ended;
            });
            return agent;
          };
          const astray = await run('astray', []);
          const refused = await eventually(
            () => statusOf(astray),
            (found) => typeof found?.hub?.lastError === 'string',
            30_000,
          );
          expect(refused?.hub).toMatchObject({
            connected: false,
            lastError: expect.stringMatching(/certificate is refused/),
          });
          astray.stop();
          const agent = await run('told', [way === 'ca' ? '--hub-ca=/site.pem' : '--hub-node=broker-1']);
          await eventually(
            () => statusOf(agent),
            (found) => found?.hub?.connected === true,
            30_000,
          );
          await eventually(
            () => hub.admin.nodes(),
            (found) => found.some(({ node, online }) => node === NODE && online),
            30_000,
          );
        } finally {
          for (const close of closing) await close();
        }
      },
      TEST_MS,
    );
  });
}
