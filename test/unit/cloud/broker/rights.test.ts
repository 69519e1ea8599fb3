import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FloodGuard } from '../../../../cloud/broker/flood-guard.ts';
import { connectRefusal, mayPublish, maySubscribe } from '../../../../cloud/broker/rights.ts';
import { brokerAcl } from '../../../../cloud/trust/broker-acl.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { parseKeyId } from '../../../../shared/trust/certificate.ts';
import type { NodePrincipal } from '../../../../shared/trust/types.ts';
import { filters, topics } from '../../../../shared/wire/topics.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const node = parseNodeName('n1');
const pool = parsePoolName('p');
const n1: NodePrincipal = {
  kind: 'node',
  node,
  pool,
  keyId: parseKeyId('a'.repeat(64)),
  serial: '01',
  notAfter: 0,
  lapsed: false,
};
/** As MQTT compares them. */
function matches(filter: string, topic: string): boolean {
  const [wanted, parts] = [filter.split('/'), topic.split('/')];
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true;
    if (index >= parts.length || (level !== '+' && level !== parts[index])) return false;
  }
  return wanted.length === parts.length;
}

describe('rights of a node', () => {
  it('no filter that it may have matches what is another’s', () => {
    const level = fc.constantFrom('tidepool', 'v1', 'pools', 'p', 'q', 'nodes', 'n1', 'n2', 'hub', 'state');
    const part = fc.oneof(level, fc.constantFrom('+', '#', 'command', 'tuning', 'birth', 'trust', ''));
    const foreign = [
      'pools/q/tuning',
      'pools/q/trust',
      'nodes/n2/command',
      'nodes/n1/birth',
      'nodes/n2/report',
    ];
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 7 }), (parts) => {
        const filter = parts.join('/');
        if (!maySubscribe(n1, filter)) return;
        for (const topic of foreign) expect(matches(filter, `tidepool/v1/${topic}`)).toBe(false);
      }),
      { seed: 42, numRuns: 20_000 },
    );
  });

  it('has every filter that an agent asks for', () => {
    for (const filter of filters.agent(node, pool)) expect(maySubscribe(n1, filter)).toBe(true);
  });

  it('says nothing in the name of another', () => {
    const own = [topics.birth(node), topics.death(node), topics.report(node)];
    for (const topic of own) expect(mayPublish(n1, { topic, payload: 'x' })).toBe(true);
    for (const topic of [topics.command(node), topics.trust(pool), `${topics.birth(node)}/x`, 'x']) {
      expect(mayPublish(n1, { topic, payload: 'x' })).toBe(false);
    }
    const topic = topics.report(node);
    expect(mayPublish(n1, { topic, payload: 'x', retain: true })).toBe(false);
    expect(mayPublish(n1, { topic, payload: Buffer.alloc(64 * 1024 + 1) })).toBe(false);
    expect(connectRefusal(n1, { clientId: 'n2', will: undefined })).toMatch(/calls itself/);
    expect(connectRefusal(n1, { clientId: 'n1', will: { topic: 'x', payload: '' } })).toMatch(/will/);
  });
});

describe('FloodGuard', () => {
  it('lets a burst pass, slows what is over it, and loses patience', () => {
    const clock = new ManualClock();
    const guard = new FloodGuard(clock, { perSecond: 10, burst: 20, waiting: 5, patienceMs: 3_000 });
    for (let i = 0; i < 20; i++) expect(guard.take()).toBe(0);
    expect(guard.take()).toBe(100);
    expect(guard.take()).toBe(200);
    // A sender that waits as it is told, and never stops.
    let told: number | undefined = 0;
    let waited = 0;
    while (told !== undefined) {
      clock.advance(told);
      waited += told;
      told = guard.take();
    }
    expect(waited).toBeGreaterThan(2_500);
    expect(waited).toBeLessThan(4_500);
    clock.advance(10_000);
    expect(guard.take()).toBe(0);
  });

  it('more than may wait is too much at once', () => {
    const guard = new FloodGuard(new ManualClock(), {
      perSecond: 10,
      burst: 20,
      waiting: 5,
      patienceMs: 3_000,
    });
    expect(guard.take(26)).toBeUndefined();
  });
});

describe('rules for other brokers', () => {
  const long = parseNodeName(`${'a'.repeat(70)}`);
  const nodes = new Map([
    [node, pool],
    [long, pool],
  ]);

  it('leaves out who could be mistaken for another', () => {
    const { text, leftOut } = brokerAcl('mosquitto', nodes);
    expect(leftOut).toEqual([long]);
    expect(text).not.toContain('aaa');
    expect(text).toBe(
      [
        'user tidepool hub',
        'topic readwrite tidepool/v1/#',
        '',
        'user n1',
        'topic write tidepool/v1/nodes/n1/birth',
        'topic write tidepool/v1/nodes/n1/death',
        'topic write tidepool/v1/nodes/n1/report',
        'topic read tidepool/v1/hub/state',
        'topic read tidepool/v1/nodes/n1/command',
        'topic read tidepool/v1/pools/p/#',
        '',
      ].join('\n'),
    );
  });

  it('EMQX: everything that is not allowed is denied', () => {
    expect(brokerAcl('emqx', nodes).text.split('\n')).toEqual([
      '{allow, {username, "tidepool hub"}, all, ["tidepool/v1/#"]}.',
      '{allow, {username, "n1"}, publish, ["tidepool/v1/nodes/n1/birth", "tidepool/v1/nodes/n1/death", "tidepool/v1/nodes/n1/report"]}.',
      '{allow, {username, "n1"}, subscribe, [{eq, "tidepool/v1/hub/state"}, {eq, "tidepool/v1/nodes/n1/command"}, "tidepool/v1/pools/p/#"]}.',
      '{deny, all}.',
      '',
    ]);
  });
});
