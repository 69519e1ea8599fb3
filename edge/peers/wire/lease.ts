/** Shares of the pool's WAN cap. */
import type { LeaseAnswer, LeaseRequest } from '../types.ts';
import { number, record } from './fields.ts';

export function parseLeaseRequest(json: unknown): LeaseRequest {
  const fields = record(json, 'lease');
  return {
    wants: fields.wants === true,
    wantsPrefetch: fields.wantsPrefetch === true,
    using: number(fields.using, 'using', 0, Number.MAX_SAFE_INTEGER),
    usingPrefetch: number(fields.usingPrefetch, 'usingPrefetch', 0, Number.MAX_SAFE_INTEGER),
    usingMs: number(fields.usingMs, 'usingMs', 0, 60_000),
  };
}

export function parseLeaseAnswer(json: unknown): LeaseAnswer {
  const fields = record(json, 'lease');
  return {
    granted: fields.granted === true,
    rate: number(fields.rate, 'rate', 0, Number.MAX_SAFE_INTEGER),
    prefetchRate: number(fields.prefetchRate, 'prefetchRate', 0, Number.MAX_SAFE_INTEGER),
    validMs: number(fields.validMs, 'validMs', 0, 60_000),
  };
}
