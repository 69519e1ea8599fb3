import { Agent, type Dispatcher } from 'undici';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { TokenBucket } from '../../shared/flow/token-bucket.ts';
import type { BlobKey, Digest, NodeName, PoolName } from '../../shared/ids.ts';
import { digestOf } from '../../shared/ids.ts';
import { layoutOf } from '../../shared/pieces.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { ManifestRecord } from '../index/types.ts';
import type { BlobStore } from '../store/types.ts';
import {
  CLIENT_KEEP_ALIVE_MS,
  CONNECT_TIMEOUT_MS,
  MAX_JSON_BYTES,
  QUESTION_CONNECTIONS,
  QUESTION_TIMEOUT_MS,
} from './constants.ts';
import { PieceConnections } from './piece-connections.ts';
import { PieceReceiver } from './piece-receiver.ts';
import type {
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
import {
  encodeAsk,
  encodeJoin,
  encodeUpstream,
  HEADER,
  PATHS,
  parseDigests,
  parseHello,
  parseJoinAnswer,
  parseLeaseAnswer,
  parseProgress,
  parseSize,
  parseTags,
  readAnswer,
} from './wire.ts';

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

/** The peer protocol over HTTP/1.1: questions through a pool of connections, pieces through their own, one a held ask. */
export class HttpPeerClient implements PeerClient {
  readonly #store: Pick<BlobStore, 'buffer'>;
  readonly #clock: Clock;
  readonly #headers: Record<string, string>;
  readonly #headerLines: string;
  readonly #agent: Agent;
  readonly #pieces: PieceConnections;
  /** Cap of what neighbours send to this node. */
  readonly #download: TokenBucket;

  constructor(components: HttpPeerClientComponents, init: HttpPeerClientInit) {
    this.#store = components.store;
    this.#clock = components.clock;
    this.#headers = { [HEADER.node]: init.node, [HEADER.pool]: init.pool, [HEADER.address]: init.address };
    this.#headerLines = Object.entries(this.#headers)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    this.#download = new TokenBucket(components.clock, undefined);
    this.#pieces = new PieceConnections(components, { localAddress: init.localAddress });
    this.#agent = new Agent({
      connections: QUESTION_CONNECTIONS,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: CLIENT_KEEP_ALIVE_MS,
      headersTimeout: 4 * QUESTION_TIMEOUT_MS,
      bodyTimeout: 4 * QUESTION_TIMEOUT_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        ...(init.localAddress === undefined ? {} : { localAddress: init.localAddress }),
      },
    });
  }

  /** Cap of what neighbours send to this node, bytes a second. */
  setDownloadRate(bytesPerSecond: number | undefined): void {
    this.#download.setRate(bytesPerSecond);
  }

  async close(): Promise<void> {
    this.#pieces.close();
    await this.#agent.destroy();
  }

  async hello(address: string, signal: AbortSignal): Promise<HelloAnswer> {
    const json = await this.#json(address, 'GET', PATHS.hello, undefined, signal);
    return readAnswer(() => parseHello(json));
  }

  async join(member: Member, request: JoinRequest, signal: AbortSignal): Promise<JoinAnswer> {
    const json = await this.#json(member.address, 'POST', PATHS.join, encodeJoin(request), signal);
    return readAnswer(() => parseJoinAnswer(json, layoutOf(request.size, request.pieceSize)));
  }

  async leave(member: Member, key: BlobKey, signal: AbortSignal): Promise<void> {
    await this.#json(member.address, 'POST', PATHS.leave, { key }, signal);
  }

  async piece(
    member: Member,
    ask: PieceAsk,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): Promise<PieceAnswer> {
    const request = `GET ${encodeAsk(ask)} HTTP/1.1\r\nhost: ${member.address}\r\n${this.#headerLines}\r\n`;
    const receiver = new PieceReceiver(
      { store: this.#store, clock: this.#clock, download: this.#download },
      { ask, signal, onBytes, send: (sink) => this.#pieces.send(member.address, request, sink) },
    );
    return receiver.answer;
  }

  async progress(member: Member, key: BlobKey, signal: AbortSignal): Promise<ProgressAnswer> {
    const path = `${PATHS.progress}?key=${key}`;
    const json = await this.#json(member.address, 'GET', path, undefined, signal);
    return readAnswer(() => parseProgress(json));
  }

  async claims(member: Member, key: BlobKey, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const path = `${PATHS.claims}?key=${key}`;
    const { status, body } = await this.#bytes(
      member.address,
      'GET',
      path,
      undefined,
      MAX_MANIFEST_BYTES,
      signal,
    );
    return status === 200 ? body : undefined;
  }

  async manifest(member: Member, digest: Digest, signal: AbortSignal): Promise<ManifestRecord | undefined> {
    const path = `${PATHS.manifest}?digest=${digest}`;
    const answer = await this.#bytes(member.address, 'GET', path, undefined, MAX_MANIFEST_BYTES, signal);
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
    const json = await this.#json(member.address, 'GET', path, undefined, signal);
    return readAnswer(() => parseTags(json));
  }

  async holdings(
    member: Member,
    digests: readonly Digest[],
    signal: AbortSignal,
  ): Promise<readonly Digest[]> {
    const json = await this.#json(member.address, 'POST', PATHS.holdings, digests, signal);
    return readAnswer(() => parseDigests(json));
  }

  async size(member: Member, digest: Digest, signal: AbortSignal): Promise<number | undefined> {
    const path = `${PATHS.size}?digest=${digest}`;
    const { status, body } = await this.#bytes(
      member.address,
      'GET',
      path,
      undefined,
      MAX_JSON_BYTES,
      signal,
    );
    if (status !== 200) return undefined;
    return readAnswer(() => parseSize(JSON.parse(Buffer.from(body).toString('utf8'))));
  }

  async lease(member: Member, request: LeaseRequest, signal: AbortSignal): Promise<LeaseAnswer> {
    const json = await this.#json(member.address, 'POST', PATHS.lease, request, signal);
    return readAnswer(() => parseLeaseAnswer(json));
  }

  async upstream(address: string, ask: UpstreamAsk, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    try {
      const { statusCode, headers, body } = await this.#agent.request({
        origin: `http://${address}`,
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
      if (signal.aborted) throw signal.reason;
      throw toTidepoolError(error, 'PEER_UNREACHABLE');
    }
  }

  async #json(
    address: string,
    method: 'GET' | 'POST',
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<unknown> {
    const answer = await this.#bytes(address, method, path, body, MAX_JSON_BYTES, signal);
    const text = Buffer.from(answer.body).toString('utf8');
    if (answer.status !== 200) {
      const code = answer.status === 403 ? 'POOL_MISMATCH' : 'PEER_UNREACHABLE';
      throw new TidepoolError(
        code,
        `neighbour at ${address} answers ${answer.status} to ${path}: ${text.slice(0, 200)}`,
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

  async #bytes(
    address: string,
    method: 'GET' | 'POST',
    path: string,
    body: unknown,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<{ status: number; headers: Dispatcher.ResponseData['headers']; body: Uint8Array }> {
    try {
      const response = await this.#agent.request({
        origin: `http://${address}`,
        method,
        path,
        headers:
          body === undefined ? this.#headers : { ...this.#headers, 'content-type': 'application/json' },
        body: body === undefined ? null : JSON.stringify(body),
        signal,
      });
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > maxBytes)
          throw new TidepoolError('PEER_UNREACHABLE', `neighbour at ${address} sends over ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw toTidepoolError(error, 'PEER_UNREACHABLE');
    }
  }
}
