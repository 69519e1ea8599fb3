import { describe, expect, it } from 'vitest';
import {
  describeError,
  ERROR_CODES,
  isTidepoolError,
  TidepoolError,
  toTidepoolError,
} from '../../../shared/errors.ts';

describe('ERROR_CODES', () => {
  // Callers, scripts and dashboards switch on these: a line may be added, none may change.
  it('is the table that callers rely on', () => {
    const lines = Object.entries(ERROR_CODES).map(([code, { status, oci }]) => `${code} ${status} ${oci}`);
    expect(lines).toMatchInlineSnapshot(`
      [
        "INVALID_ARGUMENT 400 UNSUPPORTED",
        "INVALID_REFERENCE 400 NAME_INVALID",
        "INVALID_DIGEST 400 DIGEST_INVALID",
        "INVALID_CONFIG 400 UNSUPPORTED",
        "RANGE_NOT_SATISFIABLE 416 BLOB_UNKNOWN",
        "METHOD_NOT_ALLOWED 405 UNSUPPORTED",
        "NOT_FOUND 404 NAME_UNKNOWN",
        "CONFLICT 409 UNSUPPORTED",
        "BUNDLE_REFUSED 422 UNSUPPORTED",
        "UNAUTHORIZED 401 UNAUTHORIZED",
        "DENIED 403 DENIED",
        "NAME_UNKNOWN 404 NAME_UNKNOWN",
        "MANIFEST_UNKNOWN 404 MANIFEST_UNKNOWN",
        "BLOB_UNKNOWN 404 BLOB_UNKNOWN",
        "REGISTRY_NOT_CONFIGURED 403 DENIED",
        "ORIGIN_UNREACHABLE 502 UNAVAILABLE",
        "ORIGIN_ERROR 502 UNAVAILABLE",
        "ORIGIN_LIED 502 DIGEST_INVALID",
        "POOL_MISMATCH 403 DENIED",
        "NOT_A_MEMBER 403 DENIED",
        "PIECE_NOT_HELD 404 BLOB_UNKNOWN",
        "PIECE_REFUSED 409 UNAVAILABLE",
        "PIECE_CORRUPT 502 DIGEST_INVALID",
        "PEER_UNREACHABLE 502 UNAVAILABLE",
        "PEER_STALLED 504 UNAVAILABLE",
        "DIGEST_MISMATCH 502 DIGEST_INVALID",
        "SIZE_MISMATCH 502 SIZE_INVALID",
        "STORE_FULL 507 UNAVAILABLE",
        "STORE_CORRUPT 500 UNAVAILABLE",
        "OVERLOADED 503 UNAVAILABLE",
        "TIMEOUT 504 UNAVAILABLE",
        "ABORTED 499 UNAVAILABLE",
        "CERTIFICATE_REFUSED 403 DENIED",
        "SIGNATURE_WRONG 403 DENIED",
        "TOKEN_REFUSED 403 DENIED",
        "NOT_ENROLLED 403 DENIED",
        "RUNTIME_NOT_CONFIGURED 409 UNAVAILABLE",
        "RUNTIME_ERROR 502 UNAVAILABLE",
        "HUB_UNREACHABLE 502 UNAVAILABLE",
        "KUBE_UNREACHABLE 502 UNAVAILABLE",
        "KUBE_ERROR 502 UNAVAILABLE",
        "INTERNAL 500 UNAVAILABLE",
      ]
    `);
  });

  it('has no status that a runtime retries at once on the same host, and none that means success', () => {
    for (const [code, { status }] of Object.entries(ERROR_CODES)) {
      expect([408, 429], code).not.toContain(status);
      expect(status, code).toBeGreaterThanOrEqual(400);
      expect(status, code).toBeLessThan(600);
    }
  });
});

describe('TidepoolError', () => {
  it('carries code, status, details and cause', () => {
    const cause = new Error('disk');
    const error = new TidepoolError('STORE_FULL', 'no room', { cause, details: { needed: 5 } });
    expect([error.name, error.code, error.status, error.details, error.cause]).toEqual([
      'TidepoolError',
      'STORE_FULL',
      507,
      { needed: 5 },
      cause,
    ]);
    expect('cause' in new TidepoolError('INTERNAL', 'x')).toBe(false);
  });

  it('is told from others, and by its code', () => {
    const error = new TidepoolError('TIMEOUT', 'late');
    expect(isTidepoolError(error)).toBe(true);
    expect(isTidepoolError(error, 'TIMEOUT')).toBe(true);
    expect(isTidepoolError(error, 'ABORTED')).toBe(false);
    expect(isTidepoolError({ code: 'TIMEOUT' }, 'TIMEOUT')).toBe(false);
  });
});

describe('toTidepoolError', () => {
  it('leaves one alone', () => {
    const error = new TidepoolError('TIMEOUT', 'late');
    expect(toTidepoolError(error, 'INTERNAL')).toBe(error);
  });

  it('knows an abort', () => {
    const reason = AbortSignal.abort().reason;
    expect(toTidepoolError(reason)).toMatchObject({ code: 'ABORTED', cause: reason });
  });

  it.each([
    [new Error('boom'), 'boom'],
    ['text', 'text'],
    [undefined, 'undefined'],
  ])('gives %s the code at hand, and keeps it as the cause', (thrown, message) => {
    expect(toTidepoolError(thrown, 'PEER_UNREACHABLE')).toMatchObject({
      code: 'PEER_UNREACHABLE',
      message,
    });
    expect(toTidepoolError(thrown).code).toBe('INTERNAL');
    expect(toTidepoolError(thrown).cause).toBe(thrown);
  });
});

describe('describeError', () => {
  const system = (message: string): Error => Object.assign(new Error(message), { code: 'ECONNREFUSED' });
  it.each([
    ['the message', new Error('boom'), 'boom'],
    ['a code the message lacks', system('could not connect'), 'could not connect (ECONNREFUSED)'],
    ['no code twice', system('connect ECONNREFUSED 127.0.0.1:1'), 'connect ECONNREFUSED 127.0.0.1:1'],
    ['a code for want of a message', system(''), 'ECONNREFUSED'],
    ['a name for want of both', new RangeError(''), 'RangeError'],
    ['no code of ours', new TidepoolError('TIMEOUT', 'late'), 'late'],
    ['what is no error', 7, '7'],
  ])('says %s', (_, error, text) => {
    expect(describeError(error)).toBe(text);
  });
});
