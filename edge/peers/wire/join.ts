/** Joining a swarm, and how far its pieces are. */
import { Bitmap } from '../../../shared/bitmap.ts';
import { parseBlobKey, parseNodeName } from '../../../shared/ids.ts';
import type { PieceLayout } from '../../../shared/pieces.ts';
import type { Announced, JoinAnswer, JoinRequest, OriginWord, ProgressAnswer } from '../types.ts';
import { bad, list, number, parseLayout, parseRepository, record, text } from './fields.ts';

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

function parsePieces(value: unknown, layout: PieceLayout): number[] {
  return list(value, 'claimed').map((piece) => number(piece, 'claimed', 0, layout.pieceCount - 1));
}

function parseBits(value: unknown, layout: PieceLayout): Uint8Array {
  const bytes = Buffer.from(text(value, 'have'), 'base64');
  if (bytes.length !== Math.ceil(layout.pieceCount / 8))
    throw bad('have has another length than the blob has pieces');
  return new Bitmap(layout.pieceCount, bytes).toBytes();
}
