import { randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { Slots } from '../../shared/flow/queue.ts';
import type { Digest } from '../../shared/ids.ts';
import type { BlobView, Content } from '../transfer/types.ts';
import { type BodyHead, BodyWriter, type BodyWriterInit } from './body-writer.ts';
import { MAX_RANGES } from './constants.ts';
import type { Exchange } from './exchange.ts';
import { type BodyPlan, multipart, singlePart } from './multipart.ts';
import { contentRange, parseRange } from './range.ts';
import { ifRangeHolds, noneMatchHits, parseAuthorization, parsePriority } from './request-headers.ts';
import type { Subject } from './route.ts';

const BLOB_TYPE = 'application/octet-stream';

export interface BlobComponents {
  readonly content: Content;
  readonly clock: Clock;
  /** Bodies at a time, for all requests of the mirror. */
  readonly streams: Slots;
}

/** What is sent for a request: `whole` fills the blob into the store, `range` reads no further than asked. */
interface Reply {
  readonly head: BodyHead;
  readonly plan: BodyPlan;
  readonly mode: 'whole' | 'range';
}

/** `GET|HEAD /v2/<repository>/blobs/<digest>`. @throws what the content throws, RANGE_NOT_SATISFIABLE, OVERLOADED */
export async function serveBlob(
  components: BlobComponents,
  init: BodyWriterInit,
  exchange: Exchange,
  route: Subject & { readonly digest: Digest },
): Promise<void> {
  const { clock, content, streams } = components;
  const { registry, repository, digest } = route;
  const priority = parsePriority(exchange.header('x-dragonfly-priority'));
  const view = await exchange.wait(
    content.blob({
      registry,
      repository,
      digest,
      credentials: parseAuthorization(exchange.header('authorization')),
      priority,
      signal: exchange.signal,
    }),
    'neither the pool nor the origin answered for the blob',
  );
  const etag = `"${digest}"`;
  if (noneMatchHits(exchange.header('if-none-match'), etag)) {
    const headers = { 'Docker-Content-Digest': digest, ETag: etag };
    return exchange.send({ status: 304, headers, body: new Uint8Array() });
  }
  const reply = replyTo(exchange, view, digest, etag);
  if (exchange.head) return exchange.send({ ...reply.head, body: new Uint8Array() });
  const cancel = exchange.deadline('OVERLOADED', 'all streams of this mirror are busy');
  let release: () => void;
  try {
    release = await streams.acquire({ priority, signal: exchange.signal });
  } finally {
    cancel();
  }
  try {
    const isCrowded = (): boolean => streams.waiting > 0;
    await new BodyWriter({ clock, exchange, view }, init, isCrowded).send(reply.head, reply.plan, reply.mode);
  } finally {
    release();
  }
}

function replyTo(exchange: Exchange, view: BlobView, digest: Digest, etag: string): Reply {
  const { size } = view;
  // Range means something for GET alone (RFC 9110, 14.2).
  const counts = !exchange.head && ifRangeHolds(exchange.header('if-range'), etag);
  const asked = parseRange(counts ? exchange.header('range') : undefined, size, MAX_RANGES);
  const head = (status: number, type: string, length: number, range?: string): BodyHead => ({
    status,
    headers: {
      'Content-Type': type,
      'Content-Length': length,
      ...(range === undefined ? {} : { 'Content-Range': range }),
      'Accept-Ranges': 'bytes',
      'Docker-Content-Digest': digest,
      ETag: etag,
    },
  });
  switch (asked.kind) {
    case 'none':
      return {
        head: head(200, BLOB_TYPE, size),
        plan: singlePart({ start: 0, end: size }),
        mode: 'whole',
      };
    case 'unsatisfiable':
      throw new TidepoolError('RANGE_NOT_SATISFIABLE', `no byte of the range is in a blob of ${size} bytes`, {
        details: { size },
      });
    case 'tooMany':
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `more than ${MAX_RANGES} ranges in one request; ask for fewer at a time`,
      );
    case 'ranges': {
      const [range] = asked.ranges;
      if (asked.ranges.length === 1) {
        const plan = singlePart(range);
        return {
          head: head(206, BLOB_TYPE, plan.length, contentRange(range, size)),
          plan,
          mode: 'range',
        };
      }
      const boundary = randomBytes(16).toString('hex');
      const plan = multipart(asked.ranges, size, BLOB_TYPE, boundary);
      return {
        head: head(206, `multipart/byteranges; boundary=${boundary}`, plan.length),
        plan,
        mode: 'range',
      };
    }
  }
}
