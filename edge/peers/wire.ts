/** The peer protocol's spelling: paths, headers, and the border where a neighbour's words become values. */
import type { IncomingHttpHeaders } from 'node:http';
import { Bitmap } from '../../shared/bitmap.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import {
  type BlobKey,
  type Digest,
  type NodeName,
  parseBlobKey,
  parseDigest,
  parseNodeName,
  parsePoolName,
} from '../../shared/ids.ts';
import { isRegistryHost, isRepository } from '../../shared/image-ref.ts';
import { MAX_WORD_CHARS } from '../../shared/oci-layout/constants.ts';
import { layoutOf, MAX_BLOB_BYTES, type PieceLayout } from '../../shared/pieces.ts';
import type { GrantRecord, RepositoryName } from '../index/types.ts';
import type { PieceClaim } from '../store/types.ts';
import type { Query } from './query.ts';
import type {
  AccessAnswer,
  AccessAsk,
  Announced,
  CustodyWord,
  HelloAnswer,
  JoinAnswer,
  JoinRequest,
  LeaseAnswer,
  LeaseRequest,
  Member,
  OriginWord,
  PieceAsk,
  ProgressAnswer,
  ToldTag,
  UpstreamAsk,
} from './types.ts';

export const HEADER = {
  pool: 'tidepool-pool',
  node: 'tidepool-node',
  address: 'tidepool-address',
  sha256: 'tidepool-sha256',
  reader: 'tidepool-reader',
  verified: 'tidepool-verified',
  ask: 'tidepool-ask',
} as const;

export const PATHS = {
  hello: '/v1/hello',
  channel: '/v1/channel',
  join: '/v1/join',
  leave: '/v1/leave',
  piece: '/v1/piece',
  progress: '/v1/progress',
  claims: '/v1/claims',
  manifest: '/v1/manifest',
  tags: '/v1/tags',
  holdings: '/v1/holdings',
  size: '/v1/size',
  lease: '/v1/lease',
  upstream: '/v1/upstream',
  access: '/v1/access',
  grants: '/v1/grants',
  custody: '/v1/custody',
  trust: '/v1/trust',
} as const;

/** Status of a piece answer that carries no bytes, and why. */
export const STATUS = { bytes: 200, confirmed: 204, elsewhere: 421, refused: 409 } as const;

const ADDRESS = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/;
const SHA256_HEX = /^[0-9a-f]{64}$/;
const MAX_LIST = 4_096;
const GRANT_ID = /^[A-Za-z0-9_-]{43}$/;
/** Grants told in one message. */
const MAX_GRANTS = 64;

export interface Sender {
  readonly node: NodeName;
  readonly pool: string;
  readonly address: string;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseSender(headers: IncomingHttpHeaders): Sender {
  return {
    node: parseNodeName(text(headers[HEADER.node], HEADER.node)),
    pool: parsePoolName(text(headers[HEADER.pool], HEADER.pool)),
    address: parseAddress(headers[HEADER.address]),
  };
}

/**
 * Reads an answer: nonsense in it is the neighbour's fault, not that of whoever asked.
 * @throws TidepoolError PEER_UNREACHABLE
 */
export function readAnswer<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new TidepoolError('PEER_UNREACHABLE', `the neighbour speaks nonsense: ${describeError(error)}`, {
      cause: error,
    });
  }
}

/** A literal address with a port: names are never resolved between neighbours. */
export function parseAddress(value: unknown): string {
  const address = text(value, 'address');
  if (!ADDRESS.test(address))
    throw bad(`address is not a literal address with a port: ${JSON.stringify(address)}`);
  return address;
}

/** Of an address as {@link parseAddress} takes it. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

export function encodeJoin(request: JoinRequest): unknown {
  return { ...request, have: Buffer.from(request.have).toString('base64') };
}

export function parseJoin(json: unknown): JoinRequest {
  const fields = record(json, 'join');
  const layout = parseLayout(fields.size, fields.pieceSize);
  return {
    key: parseBlobKey(text(fields.key, 'key')),
    size: layout.size,
    pieceSize: layout.pieceSize,
    ...parseRepository(fields.registry, fields.repository),
    ranked: fields.ranked === true,
    weight: number(fields.weight, 'weight', 0, 100),
    have: parseBits(fields.have, layout),
    claimed: parsePieces(fields.claimed, layout),
    ...(fields.others === true ? { others: true } : {}),
    ...parseOriginWord(fields.origin),
  };
}

export function encodeJoinAnswer(answer: JoinAnswer): unknown {
  return { ...answer, have: Buffer.from(answer.have).toString('base64') };
}

export function parseJoinAnswer(json: unknown, layout: PieceLayout): JoinAnswer {
  const fields = record(json, 'join answer');
  const whole = fields.whole === true;
  return {
    onBlob: fields.onBlob === true,
    weight: number(fields.weight, 'weight', 0, 100),
    whole,
    have: whole ? new Uint8Array(0) : parseBits(fields.have, layout),
    claimed: parsePieces(fields.claimed, layout),
    ...(fields.others === undefined ? {} : { others: list(fields.others, 'others').map(parseAnnounced) }),
    ...parseOriginWord(fields.origin),
  };
}

/** A word that a later version says is none: it only spares asks. */
function parseOriginWord(value: unknown): { origin?: OriginWord } {
  return value === 'ranges' || value === 'whole' || value === 'asks' || value === 'reads'
    ? { origin: value }
    : {};
}

function parseAnnounced(item: unknown): Announced {
  const fields = record(item, 'others');
  return {
    node: parseNodeName(text(fields.node, 'node')),
    weight: number(fields.weight, 'weight', 0, 100),
  };
}

export function encodeAsk(ask: PieceAsk): string {
  const { size, pieceSize } = ask.layout;
  let path = `${PATHS.piece}?key=${encodeURIComponent(ask.key)}&piece=${ask.piece}&size=${size}&pieceSize=${pieceSize}`;
  path += `&registry=${encodeURIComponent(ask.registry)}&repository=${encodeURIComponent(ask.repository)}`;
  path += `&priority=${ask.priority}`;
  if (ask.excluding.length > 0) path += `&excluding=${encodeURIComponent(ask.excluding.join(','))}`;
  if (ask.via !== undefined) path += `&via=${encodeURIComponent(ask.via)}`;
  if (ask.round > 0) path += `&round=${ask.round}`;
  if (ask.holding !== undefined) path += `&holding=${encodeURIComponent(ask.holding)}`;
  if (ask.compare === true) path += '&compare=1';
  if (ask.rangeless === true) path += '&rangeless=1';
  return path;
}

export function parseAsk(query: Query): PieceAsk {
  const layout = parseLayout(
    integer(query.get('size'), 'size'),
    integer(query.get('pieceSize'), 'pieceSize'),
  );
  const via = query.get('via');
  const holding = query.get('holding');
  if (holding !== null && !SHA256_HEX.test(holding)) throw bad('holding is not a sha256 in hex');
  const excluding = query.get('excluding');
  return {
    key: parseBlobKey(query.get('key') ?? ''),
    layout,
    piece: number(integer(query.get('piece'), 'piece'), 'piece', 0, layout.pieceCount - 1),
    ...parseRepository(query.get('registry'), query.get('repository')),
    excluding: excluding === null ? [] : excluding.split(',').slice(0, MAX_LIST).map(parseNodeName),
    ...(via === null ? {} : { via: parseNodeName(via) }),
    round: number(integer(query.get('round') ?? '0', 'round'), 'round', 0, 9),
    ...(holding === null ? {} : { holding }),
    compare: query.get('compare') === '1',
    ...(query.get('rangeless') === '1' ? { rangeless: true } : {}),
    priority: number(integer(query.get('priority') ?? '0', 'priority'), 'priority', 0, 9),
  };
}

export function encodeClaim(claim: PieceClaim): Record<string, string> {
  return {
    [HEADER.sha256]: Buffer.from(claim.sha256).toString('hex'),
    [HEADER.reader]: claim.reader,
    [HEADER.verified]: claim.verified ? '1' : '0',
  };
}

export function parseClaim(headers: Readonly<Record<string, unknown>>): PieceClaim {
  const sha256 = text(headers[HEADER.sha256], HEADER.sha256);
  if (!SHA256_HEX.test(sha256)) throw bad(`${HEADER.sha256} is not a sha256 in hex`);
  return {
    sha256: Buffer.from(sha256, 'hex'),
    reader: parseNodeName(text(headers[HEADER.reader], HEADER.reader)),
    verified: headers[HEADER.verified] === '1',
  };
}

export function encodeProgress(answer: ProgressAnswer): unknown {
  return { originBytes: answer.originBytes, pieces: [...answer.pieces] };
}

export function parseProgress(json: unknown): ProgressAnswer {
  const fields = record(json, 'progress');
  const pieces = list(fields.pieces, 'pieces').map((entry): [number, number] => {
    const [piece, bytes] = list(entry, 'pieces');
    return [
      number(piece, 'piece', 0, Number.MAX_SAFE_INTEGER),
      number(bytes, 'bytes', 0, Number.MAX_SAFE_INTEGER),
    ];
  });
  return {
    originBytes: number(fields.originBytes, 'originBytes', 0, Number.MAX_SAFE_INTEGER),
    pieces: new Map(pieces),
  };
}

export function parseHello(json: unknown): HelloAnswer {
  const fields = record(json, 'hello');
  return {
    node: parseNodeName(text(fields.node, 'node')),
    pool: parsePoolName(text(fields.pool, 'pool')),
    address: parseAddress(fields.address),
    members: list(fields.members, 'members').map((item): Member => {
      const member = record(item, 'members');
      return { node: parseNodeName(text(member.node, 'node')), address: parseAddress(member.address) };
    }),
  };
}

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

export function parseTagName(query: Query): { registry: string; repository: string; tag: string } {
  return {
    ...parseRepository(query.get('registry'), query.get('repository')),
    tag: text(query.get('tag'), 'tag'),
  };
}

export function parseTags(json: unknown): ToldTag[] {
  return list(json, 'tags').map((item): ToldTag => {
    const fields = record(item, 'tag');
    return {
      ...parseRepository(fields.registry, fields.repository),
      tag: text(fields.tag, 'tag'),
      digest: parseDigest(text(fields.digest, 'digest')),
      originAt: number(fields.originAt, 'originAt', 0, Number.MAX_SAFE_INTEGER),
      // One that is too long is no word; the record is one all the same.
      ...(typeof fields.word === 'string' && fields.word.length <= MAX_WORD_CHARS
        ? { word: fields.word }
        : {}),
    };
  });
}

export function parseDigests(json: unknown): Digest[] {
  return list(json, 'digests').map((item) => parseDigest(text(item, 'digest')));
}

export function parseBlobKeys(json: unknown): BlobKey[] {
  return list(json, 'keys').map((item) => parseBlobKey(text(item, 'key')));
}

/** One word for each of `count` keys. */
export function parseCustodyWords(json: unknown, count: number): CustodyWord[] {
  const words = list(json, 'words').map((word): CustodyWord => {
    if (word === 'kept' || word === 'leaving' || word === 'absent') return word;
    throw bad('a word of custody is none of kept, leaving and absent');
  });
  if (words.length !== count) throw bad(`${words.length} words of custody for ${count} keys`);
  return words;
}

export function parseSize(json: unknown): number {
  return number(record(json, 'size').size, 'size', 0, MAX_BLOB_BYTES);
}

export function encodeUpstream(ask: UpstreamAsk): string {
  const { key, registry, repository, start, end } = ask;
  return `${PATHS.upstream}?${new URLSearchParams({ key, registry, repository, start: String(start), end: String(end) })}`;
}

export function parseUpstream(query: Query): UpstreamAsk {
  const start = integer(query.get('start'), 'start');
  const end = number(integer(query.get('end'), 'end'), 'end', start + 1, MAX_BLOB_BYTES);
  return {
    key: parseKey(query),
    ...parseRepository(query.get('registry'), query.get('repository')),
    start,
    end,
  };
}

export function parseKey(query: Query): BlobKey {
  return parseBlobKey(query.get('key') ?? '');
}

/** The repository that a question is asked under. @throws TidepoolError INVALID_ARGUMENT */
export function parseName(query: Query): RepositoryName {
  return parseRepository(query.get('registry'), query.get('repository'));
}

/** A path with a question's subject and the repository that it is asked under. */
export function named(path: string, name: RepositoryName, subject: Readonly<Record<string, string>>): string {
  const { registry, repository } = name;
  return `${path}?${new URLSearchParams({ ...subject, registry, repository })}`;
}

export function encodeAccessAsk(ask: AccessAsk): string {
  const { digest, grant } = ask;
  return named(PATHS.access, ask, {
    ...(digest === undefined ? {} : { digest }),
    ...(grant === undefined ? {} : { grant }),
  });
}

export function parseAccessAsk(query: Query): AccessAsk {
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

function parseRepository(registry: unknown, repository: unknown): { registry: string; repository: string } {
  const host = text(registry, 'registry');
  const name = text(repository, 'repository');
  if (!isRegistryHost(host)) throw bad(`registry is no host: ${JSON.stringify(host)}`);
  if (!isRepository(name)) throw bad(`repository is no repository: ${JSON.stringify(name)}`);
  return { registry: host, repository: name };
}

function parseLayout(size: unknown, pieceSize: unknown): PieceLayout {
  const bytes = number(size, 'size', 0, MAX_BLOB_BYTES);
  return layoutOf(bytes, number(pieceSize, 'pieceSize', 64 * 1024, 64 * 1024 * 1024));
}

function parsePieces(value: unknown, layout: PieceLayout): number[] {
  return list(value, 'claimed').map((piece) => number(piece, 'claimed', 0, layout.pieceCount - 1));
}

function parseBits(value: unknown, layout: PieceLayout): Uint8Array {
  const bytes = Buffer.from(text(value, 'have'), 'base64');
  if (bytes.length !== Math.ceil(layout.pieceCount / 8))
    throw bad('have has another length than the blob has pieces');
  return new Bitmap(layout.pieceCount, bytes).toBytes();
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what} is no object`);
  return value as Record<string, unknown>;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > MAX_LIST)
    throw bad(`${what} is no list of at most ${MAX_LIST}`);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw bad(`${what} is missing`);
  return value;
}

function integer(value: string | null, what: string): number {
  if (value === null || !/^\d{1,16}$/.test(value)) throw bad(`${what} is no whole number`);
  return Number(value);
}

function number(value: unknown, what: string, min: number, max: number): number {
  if (typeof value !== 'number' || !(value >= min && value <= max))
    throw bad(`${what} is not between ${min} and ${max}`);
  return value;
}

function bad(message: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', message);
}
