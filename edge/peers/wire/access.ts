/** Who may read what. */
import { type Digest, parseDigest } from '../../../shared/ids.ts';
import type { GrantRecord } from '../../index/types.ts';
import type { AccessAnswer, AccessAsk } from '../types.ts';
import { bad, list, named, number, parseName, record, text } from './fields.ts';
import { PATHS } from './paths.ts';

const GRANT_ID = /^[A-Za-z0-9_-]{43}$/;

/** Grants told in one message. */
const MAX_GRANTS = 64;

export function encodeAccessAsk(ask: AccessAsk): string {
  const { digest, grant } = ask;
  return named(PATHS.access, ask, {
    ...(digest === undefined ? {} : { digest }),
    ...(grant === undefined ? {} : { grant }),
  });
}

export function parseAccessAsk(query: URLSearchParams): AccessAsk {
  const digest = query.get('digest');
  const grant = query.get('grant');
  return {
    ...parseName(query),
    ...(digest === null ? {} : { digest: parseDigest(digest) }),
    ...(grant === null ? {} : { grant: parseGrantId(grant) }),
  };
}

export function parseAccessAnswer(json: unknown): AccessAnswer {
  const fields = record(json, 'access');
  const time = (value: unknown, what: string): number => number(value, what, 0, Number.MAX_SAFE_INTEGER);
  const { openAt, closedAt, grantedAt, downSince, patienceMs, heardMs } = fields;
  return {
    ...(openAt === undefined ? {} : { openAt: time(openAt, 'openAt') }),
    ...(closedAt === undefined ? {} : { closedAt: time(closedAt, 'closedAt') }),
    ...(grantedAt === undefined ? {} : { grantedAt: time(grantedAt, 'grantedAt') }),
    ...(downSince === undefined ? {} : { downSince: time(downSince, 'downSince') }),
    ...(patienceMs === undefined ? {} : { patienceMs: time(patienceMs, 'patienceMs') }),
    ...(heardMs === undefined ? {} : { heardMs: time(heardMs, 'heardMs') }),
    ...(fields.scope === undefined ? {} : { scope: parseScope(fields.scope) }),
  };
}

function parseScope(json: unknown): { kind: 'manifest' | 'blob'; via?: Digest } {
  const { kind, via } = record(json, 'scope');
  if (kind !== 'manifest' && kind !== 'blob') throw bad('scope is neither of a manifest nor of a blob');
  return { kind, ...(via === undefined ? {} : { via: parseDigest(text(via, 'via')) }) };
}

export function parseGrants(json: unknown): GrantRecord[] {
  const grants = list(json, 'grants');
  if (grants.length > MAX_GRANTS) throw bad(`grants are more than ${MAX_GRANTS}`);
  return grants.map((item) => {
    const { id, grantedAt } = record(item, 'grant');
    return {
      id: parseGrantId(text(id, 'id')),
      grantedAt: number(grantedAt, 'grantedAt', 0, Number.MAX_SAFE_INTEGER),
    };
  });
}

function parseGrantId(value: string): string {
  if (!GRANT_ID.test(value)) throw bad('a grant is no sha256 in base64url');
  return value;
}
