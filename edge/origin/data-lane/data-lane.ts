import type { LookupFunction } from 'node:net';
import type { Clock } from '../../../shared/clock.ts';
import { TidepoolError } from '../../../shared/errors.ts';
import { Slots } from '../../../shared/flow/queue.ts';
import { KEEP_ALIVE_MS, MAX_OPEN_REQUESTS } from '../constants.ts';
import type { Exchange, ExchangeInit } from '../exchange.ts';
import { Connection } from './connection.ts';
import { ConnectionBody } from './connection-body.ts';
import type { AnswerHead } from './head.ts';

export interface DataLaneInit {
  readonly connections: number;
  readonly connectMs: number;
  /** PEM of every authority to trust; the system's when absent. */
  readonly ca?: readonly string[] | undefined;
  readonly skipVerify?: boolean | undefined;
  readonly localAddress?: string | undefined;
  readonly guard: { lookupFor(url: URL): LookupFunction | undefined };
}

interface Host {
  readonly slots: Slots;
  readonly open: Set<Connection>;
  readonly idle: Connection[];
}

const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** GETs of blobs, on connections of their own that write into the pieces' buffers; a bound for each host. */
export class DataLane {
  readonly #clock: Clock;
  readonly #init: DataLaneInit;
  readonly #hosts = new Map<string, Host>();
  #closed = false;

  constructor(clock: Clock, init: DataLaneInit) {
    this.#clock = clock;
    this.#init = init;
  }

  /**
   * One request and the head of its answer, as it comes.
   * @throws UnsizedAnswer when the body has no length, the connection's error when there is no answer, the signal's reason
   */
  async get(init: ExchangeInit): Promise<Exchange> {
    const { url, signal } = init;
    signal?.throwIfAborted();
    const text = requestText(init);
    const host = this.#host(url);
    const release = await host.slots.acquire(signal === undefined ? {} : { signal });
    if (this.#closed) {
      release();
      throw new TidepoolError('ABORTED', 'the origin is closed');
    }
    const connection = this.#idle(host) ?? this.#open(host, init);
    let body: ConnectionBody | undefined;
    const onAbort = (): void => {
      if (body === undefined) connection.destroy(signal?.reason);
      else body.abort(signal?.reason);
    };
    const done = (): void => {
      signal?.removeEventListener('abort', onAbort);
      if (connection.idle) host.idle.push(connection);
      release();
      this.#forget(url, host);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    let head: AnswerHead;
    try {
      head = await connection.send(text, done);
    } catch (error) {
      connection.destroy(error);
      throw error;
    }
    body = new ConnectionBody(this.#clock, connection, head.length, {
      host: url.host,
      stallMs: init.stallMs,
      onStall: init.onStall,
    });
    return { url, status: head.status, headers: head.headers, body };
  }

  /** Ends every connection at once. */
  close(): void {
    this.#closed = true;
    for (const { open } of this.#hosts.values()) {
      for (const connection of [...open]) {
        connection.destroy(new TidepoolError('ABORTED', 'the origin is closed'));
      }
    }
    this.#hosts.clear();
  }

  /** Takes no more requests; those under way end by themselves. */
  drain(): void {
    this.#closed = true;
    for (const { idle } of this.#hosts.values()) {
      for (const connection of idle.splice(0)) connection.destroy(new TidepoolError('ABORTED', 'not used'));
    }
  }

  #host(url: URL): Host {
    let host = this.#hosts.get(url.origin);
    if (host === undefined) {
      host = { slots: new Slots(this.#init.connections, MAX_OPEN_REQUESTS), open: new Set(), idle: [] };
      this.#hosts.set(url.origin, host);
    }
    return host;
  }

  #forget(url: URL, host: Host): void {
    if (host.open.size === 0 && host.slots.used === 0 && this.#hosts.get(url.origin) === host) {
      this.#hosts.delete(url.origin);
    }
  }

  /** The one used last; those that the other side may be about to close are given up. */
  #idle(host: Host): Connection | undefined {
    for (let last = host.idle.pop(); last !== undefined; last = host.idle.pop()) {
      if (last.idle && this.#clock.mono() - last.idleSince < KEEP_ALIVE_MS) return last;
      last.destroy(new TidepoolError('ABORTED', 'not used for long'));
    }
    return undefined;
  }

  #open(host: Host, init: ExchangeInit): Connection {
    const connection = new Connection(this.#clock, {
      ...this.#init,
      lookup: this.#init.guard.lookupFor(init.url),
      url: init.url,
      answerMs: init.answerMs,
      onClosed: (closed) => {
        host.open.delete(closed);
        const index = host.idle.indexOf(closed);
        if (index >= 0) host.idle.splice(index, 1);
        this.#forget(init.url, host);
      },
    });
    host.open.add(connection);
    return connection;
  }
}

/** @throws TidepoolError INVALID_ARGUMENT for a value that would end its line */
function requestText({ url, headers }: ExchangeInit): string {
  let text = `GET ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\n`;
  for (const [name, value] of Object.entries(headers)) {
    if (!FIELD_VALUE.test(value)) {
      throw new TidepoolError('INVALID_ARGUMENT', `header ${name} for ${url.host} holds a control character`);
    }
    text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}
