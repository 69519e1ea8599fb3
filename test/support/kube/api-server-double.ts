/**
 * A double of the API server, for machines without the real one: lists in pages, watches with bookmarks and history,
 * 410 after a compaction, status subresources, merge patches, compare-and-swap, RBAC by rules. No admission, no schemas.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kubeconfig, type Rule, type TestApiServer } from './api-server.ts';
import { type Json, mergePatch, ObjectStore, Refusal, type StoredObject } from './object-store.ts';
import { PodTokens } from './pod-tokens.ts';
import { type Route, Routes } from './routes.ts';

const ADMIN = 'admin';
const BOOKMARK_MS = 1_000;

export interface ApiServerDouble extends TestApiServer {
  /** The next requests are answered 429, to come again after so many seconds. */
  throttle(requests: number, seconds: number): void;
  /** Ends every watch with an ERROR event of 410, as a server does that lost its place. */
  expireWatches(): void;
}

export async function startApiServerDouble(): Promise<ApiServerDouble> {
  const root = await mkdtemp(join(tmpdir(), 'tidepool-kube-double-'));
  const server = new Double();
  await server.listen();
  const config = async (name: string, token: string): Promise<string> => {
    const file = join(root, `${name}.kubeconfig`);
    await writeFile(file, kubeconfig(server.url, token, { 'insecure-skip-tls-verify': true }));
    return file;
  };
  return {
    kind: 'double',
    url: server.url,
    kubeconfig: await config('admin', ADMIN),
    async kubeconfigFor(user, rules) {
      server.users.set(user, rules);
      return config(user, user);
    },
    async call(method, path, body, contentType) {
      const answer = await fetch(server.url + path, {
        method,
        headers: { authorization: `Bearer ${ADMIN}`, 'content-type': contentType ?? 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
      return text === '' ? undefined : JSON.parse(text);
    },
    halt: () => server.halt(),
    resume: () => server.listen(),
    async freeze() {
      server.frozen = true;
    },
    async thaw() {
      server.frozen = false;
      server.dropAll();
    },
    compact: async () => server.store.compact(),
    throttle: (requests, seconds) => {
      server.throttled = { requests, seconds };
    },
    expireWatches: () => server.expireWatches(),
    async close() {
      await server.halt();
      await rm(root, { recursive: true, force: true });
    },
  };
}

interface Watch {
  readonly collection: string;
  readonly response: ServerResponse;
  readonly end: () => void;
}

class Double {
  readonly store = new ObjectStore();
  readonly users = new Map<string, readonly Rule[]>();
  readonly #routes = new Routes();
  readonly #tokens = new PodTokens();
  readonly #sockets = new Set<Socket>();
  readonly #watches = new Set<Watch>();
  frozen = false;
  throttled = { requests: 0, seconds: 0 };
  #port = 0;
  #server: Server | undefined;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async halt(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.dropAll();
    await closed;
  }

  dropAll(): void {
    for (const watch of [...this.#watches]) watch.end();
    for (const socket of this.#sockets) socket.destroy();
  }

  expireWatches(): void {
    const object = status(410, 'Expired', 'too old resource version');
    for (const { response, end } of [...this.#watches]) {
      response.write(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      end();
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    // Taken, and never answered.
    if (this.frozen) return;
    try {
      if (this.throttled.requests > 0) {
        this.throttled.requests--;
        response.setHeader('retry-after', String(this.throttled.seconds));
        throw new Refusal(429, 'TooManyRequests', 'too many requests, please try again later');
      }
      const url = new URL(request.url ?? '/', this.url);
      const text = Buffer.concat(chunks).toString('utf8');
      const body: unknown = text === '' ? undefined : JSON.parse(text);
      this.#answer(request, response, url, body);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'InternalError', String(error));
      reply(response, refusal.status, status(refusal.status, refusal.reason, refusal.message));
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse, url: URL, body: unknown): void {
    const token = request.headers.authorization?.replace(/^Bearer /, '') ?? '';
    if (token !== ADMIN && !this.users.has(token)) throw new Refusal(401, 'Unauthorized', 'Unauthorized');
    const method = request.method ?? 'GET';
    const told = this.#tokens.answer(method, url.pathname, body);
    if (told !== undefined) {
      reply(response, 201, told);
      return;
    }
    const discovered = method === 'GET' ? this.#routes.discover(url.pathname) : undefined;
    if (discovered !== undefined) {
      reply(response, 200, discovered);
      return;
    }
    const route = this.#routes.find(url.pathname);
    if (route === undefined)
      throw new Refusal(404, 'NotFound', 'the server could not find the requested resource');
    const verb = verbOf(method, route, url);
    this.#allow(token, verb, route, url);
    if (verb === 'watch') this.#watch(response, route, url);
    else reply(response, verb === 'create' ? 201 : 200, this.#do(verb, request, route, url, body));
  }

  #do(verb: string, request: IncomingMessage, route: Route, url: URL, body: unknown): Json {
    const { collection, key, namespace, hasStatus, subresource } = route;
    const part = subresource === 'status' ? 'status' : '';
    switch (verb) {
      case 'list': {
        const limit = Number(url.searchParams.get('limit') ?? 0);
        const token = url.searchParams.get('continue') ?? undefined;
        const found = this.store.list(collection, keeps(url, namespace), limit, token);
        return {
          kind: 'List',
          apiVersion: 'v1',
          metadata: {
            resourceVersion: String(found.version),
            ...(found.token === '' ? {} : { continue: found.token }),
          },
          // As the real one: items do not say what they are.
          items: found.items.map(({ kind, apiVersion, ...rest }) => rest),
        };
      }
      case 'get':
        return this.store.get(collection, key);
      case 'create': {
        const object = body as Json & { metadata: Json };
        const metadata = { ...object.metadata, ...(namespace === '' ? {} : { namespace }) };
        const name = String(object.metadata.name);
        this.#routes.learn(route, object);
        return this.store.create(
          collection,
          namespace === '' ? name : `${namespace}/${name}`,
          { ...object, metadata },
          hasStatus,
        );
      }
      case 'update':
        return this.store.replace(collection, key, body as Json, hasStatus, part);
      case 'patch': {
        if (request.headers['content-type'] !== 'application/merge-patch+json') {
          throw new Refusal(415, 'UnsupportedMediaType', 'this double takes merge patches only');
        }
        const patched = mergePatch(this.store.get(collection, key), body) as Json;
        return this.store.replace(collection, key, patched, hasStatus, part);
      }
      default: {
        const options = body as { preconditions?: { uid?: string } } | undefined;
        const gone = this.store.remove(collection, key, options?.preconditions?.uid);
        const orphaned = this.#routes.forget(route, gone);
        if (orphaned !== undefined) {
          this.store.removeAll(orphaned);
          for (const watch of [...this.#watches]) if (watch.collection === orphaned) watch.end();
        }
        return gone;
      }
    }
  }

  #watch(response: ServerResponse, route: Route, url: URL): void {
    const from = Number(url.searchParams.get('resourceVersion') ?? 0);
    const keep = keeps(url, route.namespace);
    const missed = this.store.since(route.collection, from);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const send = (type: string, object: Json): void => {
      if (!this.frozen) response.write(`${JSON.stringify({ type, object })}\n`);
    };
    for (const { type, object } of missed) if (keep(object)) send(type, object);
    const unsubscribe = this.store.onChange(({ collection, type, object }) => {
      if (collection === route.collection && keep(object)) send(type, object);
    });
    const bookmarks = setInterval(
      () => send('BOOKMARK', { metadata: { resourceVersion: String(this.store.version) } }),
      BOOKMARK_MS,
    );
    const seconds = Number(url.searchParams.get('timeoutSeconds') ?? 1800);
    const timer = setTimeout(() => watch.end(), seconds * 1000);
    const watch: Watch = {
      collection: route.collection,
      response,
      end: () => {
        clearInterval(bookmarks);
        clearTimeout(timer);
        unsubscribe();
        this.#watches.delete(watch);
        response.end();
      },
    };
    this.#watches.add(watch);
    response.on('close', watch.end);
  }

  #allow(user: string, verb: string, route: Route, url: URL): void {
    if (user === ADMIN) return;
    const resource = route.subresource === '' ? route.plural : `${route.plural}/${route.subresource}`;
    const field = /^metadata\.name=(.+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1];
    const name = route.name === '' ? (field ?? '') : route.name;
    const allowed = this.users
      .get(user)
      ?.some(
        (rule) =>
          rule.apiGroups.includes(route.group) &&
          rule.resources.includes(resource) &&
          rule.verbs.includes(verb) &&
          (rule.resourceNames === undefined || rule.resourceNames.includes(name)),
      );
    if (allowed) return;
    const message = `${resource} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${route.group}"`;
    throw new Refusal(403, 'Forbidden', message);
  }
}

function keeps(url: URL, namespace: string): (object: StoredObject) => boolean {
  const name = /^metadata\.name=(.+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1];
  return ({ metadata }) =>
    (name === undefined || metadata.name === name) && (namespace === '' || metadata.namespace === namespace);
}

function verbOf(method: string, route: Route, url: URL): string {
  if (method === 'GET') {
    if (route.name !== '') return 'get';
    return url.searchParams.get('watch') === 'true' ? 'watch' : 'list';
  }
  const verb = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method];
  if (verb === undefined) throw new Refusal(405, 'MethodNotAllowed', method);
  return verb;
}

function status(code: number, reason: string, message: string): Json {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

function reply(response: ServerResponse, code: number, body: Json): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
