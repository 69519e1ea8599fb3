/** Asking for bytes, and what is claimed of them. */
import { parseBlobKey, parseNodeName } from '../../../shared/ids.ts';
import { MAX_BLOB_BYTES } from '../../../shared/pieces.ts';
import type { PieceClaim } from '../../store/types.ts';
import type { PieceAsk, UpstreamAsk } from '../types.ts';
import {
  bad,
  integer,
  MAX_LIST,
  number,
  parseKey,
  parseLayout,
  parseRepository,
  SHA256_HEX,
  text,
} from './fields.ts';
import { HEADER, PATHS } from './paths.ts';

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

export function parseAsk(query: URLSearchParams): PieceAsk {
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

export function encodeUpstream(ask: UpstreamAsk): string {
  const { key, registry, repository, start, end } = ask;
  return `${PATHS.upstream}?${new URLSearchParams({ key, registry, repository, start: String(start), end: String(end) })}`;
}

export function parseUpstream(query: URLSearchParams): UpstreamAsk {
  const start = integer(query.get('start'), 'start');
  const end = number(integer(query.get('end'), 'end'), 'end', start + 1, MAX_BLOB_BYTES);
  return {
    key: parseKey(query),
    ...parseRepository(query.get('registry'), query.get('repository')),
    start,
    end,
  };
}
