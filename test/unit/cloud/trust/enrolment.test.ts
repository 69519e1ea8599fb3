import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Enrolled } from '../../../../cloud/trust/enrolment.ts';
import { makeRequest } from '../../../../edge/identity/request.ts';
import { isTidepoolError, TidepoolError } from '../../../../shared/errors.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { readCertificate } from '../../../../shared/trust/certificate.ts';
import { DAY_MS } from '../../../support/trust.ts';
import { type Desk, startDesk } from '../../../support/trust-desk.ts';

const POOL = parsePoolName('store');
const node = parseNodeName;
const refusedAs = (code: string) => expect.objectContaining({ code });
const der = ({ certificate }: Enrolled): Uint8Array => new X509Certificate(certificate).raw;

/** Keys take milliseconds each; they are made once. */
let requests: readonly string[] = [];
beforeAll(async () => {
  requests = await Promise.all(Array.from({ length: 24 }, async () => (await makeRequest('n')).request));
});
const request = (i: number): string => requests[i] ?? '';

async function tokenOf({ book }: Desk, uses = 1, ttlMs = DAY_MS): Promise<string> {
  return (await book.createToken({ pool: POOL, uses, ttlMs })).token;
}

describe('what a certificate needs is durable before it exists', () => {
  it('counts the use before it signs: a crash in between costs the token’s use, and gives no second one', async () => {
    const desk = await startDesk();
    const token = await tokenOf(desk);
    desk.bookVault.before = async () => {
      throw new TidepoolError('STORE_FULL', 'the disk has gone');
    };
    await expect(desk.enrolment.enrol({ node: node('a'), request: request(0), token })).rejects.toEqual(
      refusedAs('STORE_FULL'),
    );
    desk.bookVault.before = async () => undefined;
    // The process that could not write it has it in mind all the same.
    await expect(desk.enrolment.enrol({ node: node('b'), request: request(1), token })).rejects.toEqual(
      refusedAs('TOKEN_REFUSED'),
    );
  });

  it('knows after a crash who was counted, and answers that one again with its key alone', async () => {
    const desk = await startDesk();
    const token = await tokenOf(desk);
    // The answer is lost together with the process: nothing of it is stopped in order.
    await desk.enrolment.enrol({ node: node('a'), request: request(0), token });
    const { clock, authorityVault, bookVault } = desk;
    const after = await startDesk({ clock, authorityVault, bookVault });
    await expect(after.enrolment.enrol({ node: node('b'), request: request(1), token })).rejects.toEqual(
      refusedAs('TOKEN_REFUSED'),
    );
    const again = await after.enrolment.enrol({ node: node('a'), request: request(0), token });
    expect(readCertificate(again.certificate).subject).toEqual({ kind: 'node', node: 'a', pool: 'store' });
    clock.advance(10 * 60_000);
    await expect(after.enrolment.enrol({ node: node('a'), request: request(0), token })).rejects.toEqual(
      refusedAs('TOKEN_REFUSED'),
    );
  });

  it('signs nothing while the write is under way', async () => {
    const desk = await startDesk();
    const token = await tokenOf(desk);
    let release = (): void => undefined;
    let reached = (): void => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    desk.bookVault.before = () =>
      new Promise((resolve) => {
        release = resolve;
        reached();
      });
    let answered = false;
    const answer = desk.enrolment.enrol({ node: node('a'), request: request(0), token }).then(() => {
      answered = true;
    });
    await isReached;
    await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    release();
    await answer;
  });
});

describe('many at once', () => {
  it('let in exactly as many nodes as the token has uses, in whatever order they come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.record({ name: fc.integer({ min: 0, max: 5 }), key: fc.integer({ min: 0, max: 7 }) }), {
          minLength: 1,
          maxLength: 12,
        }),
        async (uses, comers) => {
          const desk = await startDesk();
          const token = await tokenOf(desk, uses);
          const results = await Promise.allSettled(
            comers.map(({ name, key }) =>
              desk.enrolment.enrol({ node: node(`n${name}`), request: request(key), token }),
            ),
          );
          const certificates = results.flatMap((each) =>
            each.status === 'fulfilled' ? [readCertificate(each.value.certificate)] : [],
          );
          const [entry] = desk.book.tokens();
          const keys = new Set(certificates.map(({ keyId }) => keyId));
          // A node that comes twice with its key is one use; nobody gets another's key, nor another's name.
          expect(keys.size).toBe(Math.min(uses, keys.size));
          expect(entry?.used).toBe(keys.size);
          expect(new Set(certificates.map(({ subject }) => JSON.stringify(subject))).size).toBe(keys.size);
          for (const each of results) {
            if (each.status === 'rejected') {
              const known = ['TOKEN_REFUSED', 'CONFLICT'] as const;
              expect(known.some((code) => isTidepoolError(each.reason, code))).toBe(true);
            }
          }
        },
      ),
      { seed: 20_261_121, numRuns: 25 },
    );
  });

  it('are refused where too many wait', async () => {
    const desk = await startDesk({ signing: { atOnce: 1, waiting: 1 } });
    const token = await tokenOf(desk, 9);
    const results = await Promise.allSettled(
      [0, 1, 2, 3, 4].map((i) => desk.enrolment.enrol({ node: node(`n${i}`), request: request(i), token })),
    );
    const refused = results.filter(
      (each) => each.status === 'rejected' && isTidepoolError(each.reason, 'OVERLOADED'),
    );
    expect(refused.length).toBeGreaterThanOrEqual(1);
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(2);
    await desk.enrolment.enrol({ node: node('later'), request: request(9), token });
  });
});

describe('a renewal', () => {
  it('is for certificates that have ended within the grace, and for no others', async () => {
    const desk = await startDesk();
    const first = await desk.enrolment.enrol({
      node: node('a'),
      request: request(0),
      token: await tokenOf(desk),
    });
    desk.clock.advance(119 * DAY_MS);
    expect(() => desk.identity.judge(der(first))).toThrow(/ended/);
    const second = await desk.enrolment.renew(der(first), request(1));
    expect(desk.identity.judge(der(second))).toMatchObject({ kind: 'node', node: 'a', lapsed: false });
    desk.clock.advance(121 * DAY_MS);
    await expect(desk.enrolment.renew(der(second), request(2))).rejects.toEqual(
      refusedAs('CERTIFICATE_REFUSED'),
    );
  });

  it('is not for a certificate of a hub that has never heard of the node', async () => {
    const desk = await startDesk();
    const first = await desk.enrolment.enrol({
      node: node('a'),
      request: request(0),
      token: await tokenOf(desk),
    });
    const { clock, authorityVault } = desk;
    const empty = await startDesk({ clock, authorityVault });
    await expect(empty.enrolment.renew(der(first), request(1))).rejects.toEqual(refusedAs('NOT_ENROLLED'));
  });

  it('does not take the key of another node, nor one that was revoked', async () => {
    const desk = await startDesk();
    const token = await tokenOf(desk, 2);
    const a = await desk.enrolment.enrol({ node: node('a'), request: request(0), token });
    await desk.enrolment.enrol({ node: node('b'), request: request(1), token });
    await expect(desk.enrolment.renew(der(a), request(1))).rejects.toEqual(refusedAs('CONFLICT'));
    await desk.book.revoke(node('b'));
    await expect(desk.enrolment.renew(der(a), request(1))).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
  });

  it('cannot be asked for without end', async () => {
    const desk = await startDesk();
    const first = await desk.enrolment.enrol({
      node: node('a'),
      request: request(0),
      token: await tokenOf(desk),
    });
    const codes = new Set<string>();
    for (let i = 0; i < 33; i++) {
      const { request: next } = await makeRequest('a');
      await desk.enrolment.renew(der(first), next).catch((error: unknown) => {
        codes.add(isTidepoolError(error) ? error.code : 'other');
      });
    }
    expect([...codes]).toEqual(['CONFLICT']);
  });
});

describe('a ServiceAccount', () => {
  const reviewer = {
    review: async () => ({ node: node('edge-1'), account: 'kube-system/tidepool-agent' }),
  };

  it('lets in the node of its pod, into the pool that the hub knows, and later into the one it has', async () => {
    let pool = parsePoolName('labelled');
    const desk = await startDesk({ reviewer, poolOf: () => pool });
    const first = await desk.enrolment.enrol({
      node: node('edge-1'),
      request: request(0),
      serviceAccountToken: 't',
    });
    expect(first.pool).toBe('labelled');
    // The kubelet relabels its own node: that counts for nothing now.
    pool = parsePoolName('elsewhere');
    const again = await desk.enrolment.enrol({
      node: node('edge-1'),
      request: request(1),
      serviceAccountToken: 't',
      replace: true,
    });
    expect(again.pool).toBe('labelled');
    expect(desk.book.entry(node('edge-1'))?.by).toBe('serviceaccount:kube-system/tidepool-agent');
  });

  it('lets in no other node, and none without a pool', async () => {
    const desk = await startDesk({ reviewer });
    const other = { node: node('edge-2'), request: request(0), serviceAccountToken: 't' };
    await expect(desk.enrolment.enrol(other)).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
    await expect(desk.enrolment.enrol({ ...other, node: node('edge-1') })).rejects.toEqual(
      refusedAs('CONFLICT'),
    );
    const plain = await startDesk();
    await expect(plain.enrolment.enrol(other)).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
  });
});
