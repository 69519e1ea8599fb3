import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { TokenBucket } from '../../shared/flow/token-bucket.ts';
import type { BlobKey, Digest, NodeName, PoolName } from '../../shared/ids.ts';
import { digestOf } from '../../shared/ids.ts';
import { layoutOf } from '../../shared/pieces.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { GrantRecord, ManifestRecord, RepositoryName } from '../index/types.ts';
import type { BlobStore } from '../store/types.ts';
import { Channels } from './channels.ts';
import { MAX_JSON_BYTES, QUESTION_TIMEOUT_MS } from './constants.ts';
import { connectionFailed, Dialer } from './dialer.ts';
import { PieceReceiver } from './piece-receiver.ts';
import { type Answer, Question } from './question.ts';
import { QuestionAgents, type QuestionRoute } from './question-agents.ts';
import type {
  AccessAnswer,
  AccessAsk,
  CustodyWord,
  HelloAnswer,
  JoinAnswer,
  JoinRequest,
  LeaseAnswer,
  LeaseRequest,
  Member,
  PeerClient,
  PieceAnswer,
  PieceAsk,
  ProgressAnswer,
  ToldTag,
  UpstreamAsk,
} from './types.ts';
import { encodeAccessAsk, parseAccessAnswer } from './wire/access.ts';
import { named, readAnswer } from './wire/fields.ts';
import { encodeJoin, parseJoinAnswer, parseProgress } from './wire/join.ts';
import { parseLeaseAnswer } from './wire/lease.ts';
import { parseHello } from './wire/members.ts';
import { HEADER, PATHS } from './wire/paths.ts';
import { encodeAsk, encodeUpstream } from './wire/piece.ts';
import { parseCustodyWords, parseDigests, parseSize, parseTags } from './wire/records.ts';

/** Largest manifest that a neighbour may send; the origin's bound is the same. */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

interface HttpPeerClientComponents {
  readonly store: Pick<BlobStore, 'buffer'>;
  readonly clock: Clock;
  readonly identity?: TlsIdentity | undefined;
}

interface HttpPeerClientInit {
  readonly node: NodeName;
  readonly pool: PoolName;
  /** `host:port` where neighbours reach this node; told in each request. */
  readonly address: string;
  /** Address to dial from, where the host has several. */
  readonly localAddress?: string;
}

/** Asks of this priority and after it have a lane of their own. */
const FIRST_PREFETCH_PRIORITY = 1;
const ANSWER_TIMEOUT_MS = 4 * QUESTION_TIMEOUT_MS;

/**
 * The peer protocol's asking end. Members are asked over channels, any number of asks at a time; who is at an address, and
 * other pools, by single HTTP requests.
 */
export class HttpPeerClient implements PeerClient {
  readonly #store: Pick<BlobStore, 'buffer'>;
  readonly #clock: Clock;
  readonly #headers: Record<string, string>;
  readonly #dialer: Dialer;
  readonly #agents: QuestionAgents;
  readonly #channels: Channels;
  /** Cap of what neighbours send to this node. */
  readonly #download: TokenBucket;

  constructor(components: HttpPeerClientComponents, init: HttpPeerClientInit) {
    this.#store = components.store;
    this.#clock = components.clock;
    this.#headers = { [HEADER.node]: init.node, [HEADER.pool]: init.pool, [HEADER.address]: init.address };
    this.#download = new TokenBucket(components.clock, undefined);
    const { pool, localAddress } = init;
    this.#dialer = new Dialer(components.identity, { pool, localAddress });
    const sender = Object.entries(this.#headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    this.#channels = new Channels({ clock: components.clock, dialer: this.#dialer }, { sender });
    this.#agents = new QuestionAgents(this.#dialer, { localAddress });
  }

  /** Cap of what neighbours send to this node, bytes a second. */
  setDownloadRate(bytesPerSecond: number | undefined): void {
    this.#download.setRate(bytesPerSecond);
  }

  async close(): Promise<void> {
    this.#channels.close();
    await this.#agents.close();
    this.#dialer.close();
  }

  async hello(address: string, signal: AbortSignal): Promise<HelloAnswer> {
    const route = this.#agents.naming(address);
    try {
      const answered = await this.#bytesBy(route, PATHS.hello, signal);
      const json = asJson(answered, address, PATHS.hello);
      const answer = readAnswer(() => parseHello(json));
      const named = route.named();
      if (named !== undefined && (named.node !== answer.node || named.pool !== answer.pool)) {
        throw new TidepoolError(
          'PEER_UNREACHABLE',
          `${named.node} of pool ${named.pool} is at ${address} and calls itself ${answer.node} of ${answer.pool}`,
        );
      }
      return answer;
    } finally {
      route.close();
    }
  }

  async join(member: Member, request: JoinRequest, signal: AbortSignal): Promise<JoinAnswer> {
    const json = await this.#json(member, 'POST', PATHS.join, encodeJoin(request), signal);
    return readAnswer(() => parseJoinAnswer(json, layoutOf(request.size, request.pieceSize)));
  }

  async leave(member: Member, key: BlobKey, signal: AbortSignal): Promise<void> {
    await this.#json(member, 'POST', PATHS.leave, { key }, signal);
  }

  async piece(
    member: Member,
    ask: PieceAsk,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): Promise<PieceAnswer> {
    const lane = ask.priority < FIRST_PREFETCH_PRIORITY ? 'pieces' : 'prefetch';
    const path = encodeAsk(ask);
    const receiver = new PieceReceiver(
      { store: this.#store, clock: this.#clock, download: this.#download },
      {
        ask,
        signal,
        onBytes,
        send: (sink) => this.#channels.send(member, lane, { method: 'GET', path }, sink),
      },
    );
    return receiver.answer;
  }

  async progress(
    member: Member,
    key: BlobKey,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<ProgressAnswer> {
    const path = named(PATHS.progress, name, { key });
    const json = await this.#json(member, 'GET', path, undefined, signal);
    return readAnswer(() => parseProgress(json));
  }

  async claims(
    member: Member,
    key: BlobKey,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const path = named(PATHS.claims, name, { key });
    const { status, body } = await this.#bytes(member, 'GET', path, undefined, MAX_MANIFEST_BYTES, signal);
    return status === 200 ? body : undefined;
  }

  async manifest(
    member: Member,
    digest: Digest,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<ManifestRecord | undefined> {
    const path = named(PATHS.manifest, name, { digest });
    const answer = await this.#bytes(member, 'GET', path, undefined, MAX_MANIFEST_BYTES, signal);
    if (answer.status !== 200) return undefined;
    const mediaType = answer.headers['content-type'];
    if (digestOf(answer.body) !== digest || typeof mediaType !== 'string') {
      throw new TidepoolError('PIECE_CORRUPT', `${member.node} sent a manifest that is not ${digest}`);
    }
    return { digest, mediaType, bytes: answer.body };
  }

  async tags(
    member: Member,
    name: { registry: string; repository: string; tag: string },
    signal: AbortSignal,
  ): Promise<readonly ToldTag[]> {
    const path = `${PATHS.tags}?${new URLSearchParams(name)}`;
    const json = await this.#json(member, 'GET', path, undefined, signal);
    return readAnswer(() => parseTags(json));
  }

  async holdings(
    member: Member,
    digests: readonly Digest[],
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<readonly Digest[]> {
    const json = await this.#json(member, 'POST', named(PATHS.holdings, name, {}), digests, signal);
    return readAnswer(() => parseDigests(json));
  }

  async size(
    member: Member,
    digest: Digest,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const path = named(PATHS.size, name, { digest });
    const { status, body } = await this.#bytes(member, 'GET', path, undefined, MAX_JSON_BYTES, signal);
    if (status !== 200) return undefined;
    return readAnswer(() => parseSize(JSON.parse(Buffer.from(body).toString('utf8'))));
  }

  async access(member: Member, ask: AccessAsk, signal: AbortSignal): Promise<AccessAnswer> {
    const json = await this.#json(member, 'GET', encodeAccessAsk(ask), undefined, signal);
    return readAnswer(() => parseAccessAnswer(json));
  }

  async grants(member: Member, grants: readonly GrantRecord[], signal: AbortSignal): Promise<void> {
    await this.#json(member, 'POST', PATHS.grants, grants, signal);
  }

  /** What the hub has said last of whom to trust, as far as the neighbour knows, signed; undefined where it knows nothing. */
  async trust(member: Member, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const answer = await this.#bytes(member, 'GET', PATHS.trust, undefined, MAX_JSON_BYTES, signal);
    return answer.status === 200 ? answer.body : undefined;
  }

  /** What the neighbour promises of blobs that this node would like to give up, in their order. */
  async custody(member: Member, keys: readonly BlobKey[], signal: AbortSignal): Promise<CustodyWord[]> {
    const json = await this.#json(member, 'POST', PATHS.custody, keys, signal);
    return readAnswer(() => parseCustodyWords(json, keys.length));
  }

  async lease(member: Member, request: LeaseRequest, signal: AbortSignal): Promise<LeaseAnswer> {
    const json = await this.#json(member, 'POST', PATHS.lease, request, signal);
    return readAnswer(() => parseLeaseAnswer(json));
  }

  async upstream(address: string, ask: UpstreamAsk, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    try {
      const { dispatcher, origin } = this.#agents.to(address, { kind: 'other-pool' });
      const { statusCode, headers, body } = await dispatcher.request({
        origin,
        method: 'GET',
        path: encodeUpstream(ask),
        headers: this.#headers,
        signal,
      });
      const length = ask.end - ask.start;
      if (statusCode === 200 && Number(headers['content-length']) === length) return body;
      // Breaking a body off makes it say so; nobody listens to this one any more, and an unheard 'error' ends the process.
      body.on('error', () => undefined);
      body.destroy();
      throw new TidepoolError('PEER_UNREACHABLE', `upstream ${address} answers ${statusCode}`);
    } catch (error) {
      throw asked(error, signal);
    }
  }

  async #json(
    member: Member,
    method: 'GET' | 'POST',
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<unknown> {
    const answer = await this.#bytes(member, method, path, body, MAX_JSON_BYTES, signal);
    return asJson(answer, member.address, path);
  }

  async #bytes(
    member: Member,
    method: 'GET' | 'POST',
    path: string,
    body: unknown,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const ask = {
      method,
      path,
      ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
    };
    try {
      const question = new Question(
        { clock: this.#clock },
        {
          maxBytes,
          timeoutMs: ANSWER_TIMEOUT_MS,
          signal,
          send: (sink) => this.#channels.send(member, 'questions', ask, sink),
        },
      );
      return await question.answer;
    } catch (error) {
      throw asked(error, signal);
    }
  }

  async #bytesBy({ dispatcher, origin }: QuestionRoute, path: string, signal: AbortSignal): Promise<Answer> {
    try {
      const response = await dispatcher.request({
        origin,
        method: 'GET',
        path,
        headers: this.#headers,
        signal,
      });
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > MAX_JSON_BYTES) {
          throw new TidepoolError(
            'PEER_UNREACHABLE',
            `neighbour at ${origin} sends over ${MAX_JSON_BYTES} bytes`,
          );
        }
        chunks.push(chunk);
      }
      return { status: response.statusCode, headers: {}, body: Buffer.concat(chunks) };
    } catch (error) {
      throw asked(error, signal);
    }
  }
}

function asJson({ status, body }: Answer, address: string, path: string): unknown {
  const text = body.toString('utf8');
  if (status !== 200) {
    const code = status === 403 ? 'POOL_MISMATCH' : 'PEER_UNREACHABLE';
    throw new TidepoolError(
      code,
      `neighbour at ${address} answers ${status} to ${path}: ${text.slice(0, 200)}`,
    );
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TidepoolError('PEER_UNREACHABLE', `neighbour at ${address} answers no JSON to ${path}`, {
      cause: error,
    });
  }
}

/** What a question ended with, as who asked it is told. */
function asked(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  return isTidepoolError(error, 'CERTIFICATE_REFUSED')
    ? connectionFailed(error)
    : toTidepoolError(error, 'PEER_UNREACHABLE');
}
