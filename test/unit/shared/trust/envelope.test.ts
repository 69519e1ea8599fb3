import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { openMessage, signMessage } from '../../../../shared/trust/envelope.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const TOPIC = 'tidepool/v1/pools/shop/tuning';

describe('a signed message', () => {
  let hub: TestIdentity;
  let node: TestIdentity;

  beforeAll(async () => {
    const authority = await TestAuthority.make();
    hub = await authority.hub();
    node = await authority.node('node-1', 'shop');
  });
  const open = (topic: string, payload: Uint8Array): string =>
    Buffer.from(openMessage(topic, payload, (certificate) => node.judge(certificate))).toString();

  it('is opened by whoever trusts the hub', () => {
    expect(open(TOPIC, signMessage(TOPIC, Buffer.from('{"a":1}\nb'), hub.current()))).toBe('{"a":1}\nb');
  });

  it('counts for its topic alone', () => {
    const signed = signMessage(TOPIC, Buffer.from('{}'), hub.current());
    expect(() => open('tidepool/v1/pools/other/tuning', signed)).toThrow(/does not fit/);
  });

  it('counts from the hub alone', async () => {
    expect(() => open(TOPIC, signMessage(TOPIC, Buffer.from('{}'), node.current()))).toThrow(/only the hub/);
    const stranger = await (await TestAuthority.make()).hub();
    expect(() => open(TOPIC, signMessage(TOPIC, Buffer.from('{}'), stranger.current()))).toThrow(
      /no authority/,
    );
  });

  it('is refused when anything in it is changed, cut or missing', () => {
    const signed = signMessage(TOPIC, Buffer.from('{"version":7}'), hub.current());
    fc.assert(
      fc.property(fc.nat(signed.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const tampered = Buffer.from(signed);
        tampered[at] = (tampered[at] ?? 0) ^ change;
        // Base64 takes some other spellings for the same bytes; the body is then what was signed.
        try {
          return open(TOPIC, tampered) === '{"version":7}';
        } catch (error) {
          return error instanceof Error && /refused/.test(error.message);
        }
      }),
      { seed: 42, numRuns: 300 },
    );
    expect(() => open(TOPIC, Buffer.from('{"version":7}'))).toThrow(/not signed/);
    expect(() => open(TOPIC, Buffer.alloc(0))).toThrow(/not signed/);
    expect(() => open(TOPIC, signed.subarray(0, 40))).toThrow(/not signed/);
  });
});
