import { describe, expect, it } from 'vitest';
import { errorAnswer, rawErrorAnswer, safeStatus } from '../../../../edge/mirror/error-answer.ts';
import { ERROR_CODES, type ErrorCode, TidepoolError } from '../../../../shared/errors.ts';

const CODES = Object.keys(ERROR_CODES) as ErrorCode[];

describe('safeStatus', () => {
  it('lets no status through that containerd retries on the spot, no redirect, and nothing that is no status', () => {
    for (let status = -1; status < 1100; status++) {
      const safe = safeStatus(status);
      expect([408, 429, 499]).not.toContain(safe);
      expect(safe >= 200 && safe < 600 && !(safe >= 300 && safe < 400)).toBe(true);
      if ([200, 206, 401, 403, 404, 416, 431, 500, 502, 503, 504, 507].includes(status))
        expect(safe).toBe(status);
    }
    expect([safeStatus(408), safeStatus(429), safeStatus(302)]).toEqual([502, 503, 502]);
  });
});

describe('errorAnswer', () => {
  it.each(CODES)('%s is an OCI body of exact length', (code) => {
    const answer = errorAnswer(new TidepoolError(code, 'why\nit failed', { details: { size: 7 } }));
    const text = Buffer.from(answer.body).toString();
    expect(JSON.parse(text)).toEqual({
      errors: [{ code: ERROR_CODES[code].oci, message: 'why it failed', detail: { size: 7, reason: code } }],
    });
    expect(answer.headers['Content-Length']).toBe(Buffer.byteLength(text));
    expect([408, 429]).not.toContain(answer.status);
    expect(answer.headers['WWW-Authenticate']).toBe(
      code === 'UNAUTHORIZED' ? 'Basic realm="tidepool"' : undefined,
    );
  });

  it('ends the connection where it is sent raw', () => {
    const text = rawErrorAnswer(new TidepoolError('INVALID_ARGUMENT', 'no'), 431).toString();
    expect(text).toMatch(/^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/);
    expect(text).toMatch(/\r\nConnection: close\r\n\r\n\{"errors"/);
  });
});
