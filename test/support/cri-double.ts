import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { decodeMessage, encodeMessage, METHODS, type MethodName } from '../../edge/runtime/cri/messages.ts';
import { digestOf } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';

type Message = Readonly<Record<string, unknown>>;

export interface CriDoubleInit {
  /** Base URL of what it pulls from; undefined: it goes past every mirror, and answers as if the registry had the image. */
  readonly mirror?: string | undefined;
  readonly version?: string;
}

/**
 * Stands where containerd's CRI plugin would: gRPC on a unix socket, images pulled over HTTP with `?ns=` as containerd does,
 * kept by name. Everything it is asked is recorded.
 */
export class CriDouble {
  readonly images = new Map<string, { id: string; digest: string; bytes: number }>();
  readonly pulls: string[] = [];
  /** What containers were made of, by id or name. */
  readonly containers: string[] = [];
  /** Set to have every pull fail this way. */
  failure: { code: status; details: string } | undefined;
  /** Set to have calls never answered. */
  silent = false;
  mirror: string | undefined;
  readonly #directory = mkdtempSync(join(tmpdir(), 'cri-'));
  readonly #version: string;
  #server: Server | undefined;

  constructor(init: CriDoubleInit = {}) {
    this.mirror = init.mirror;
    this.#version = init.version ?? 'v2.2.4';
  }

  get socket(): string {
    return join(this.#directory, 'cri.sock');
  }

  async start(): Promise<void> {
    const server = new Server();
    const handlers: Record<MethodName, (request: Message) => Promise<Message>> = {
      version: async () => ({
        version: '0.1.0',
        runtimeName: 'containerd',
        runtimeVersion: this.#version,
        runtimeApiVersion: 'v1',
      }),
      listContainers: async () => ({ containers: this.containers.map((name) => ({ imageRef: name })) }),
      listImages: async () => ({ images: [...this.images].map(([name, image]) => shown(name, image)) }),
      imageStatus: async (request) => {
        const name = imageOf(request);
        const image = this.images.get(name);
        return image === undefined ? {} : { image: shown(name, image) };
      },
      pullImage: async (request) => ({ imageRef: await this.#pull(imageOf(request)) }),
    };
    for (const method of ['version', 'listContainers', 'listImages', 'imageStatus', 'pullImage'] as const) {
      const { definition, implementation } = unary(method, async (request) => {
        if (this.silent) return await new Promise<never>(() => undefined);
        return await handlers[method](request);
      });
      server.addService(definition, implementation);
    }
    this.#server = server;
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix://${this.socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  }

  async stop(): Promise<void> {
    this.#server?.forceShutdown();
    this.#server = undefined;
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #pull(name: string): Promise<string> {
    this.pulls.push(name);
    if (this.failure !== undefined) throw Object.assign(new Error(this.failure.details), this.failure);
    const { registry, repository, tag, digest } = parseImageRef(name);
    if (this.mirror === undefined) {
      if (registry.endsWith('.invalid')) throw new Error(`dial tcp: lookup ${registry}: no such host`);
      return this.#keep(name, digestOf(Buffer.from(name)), digestOf(Buffer.from(name)), 0);
    }
    const get = async (path: string): Promise<Buffer> => {
      const answer = await fetch(`${this.mirror}/v2/${repository}/${path}?ns=${registry}`);
      if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
      return Buffer.from(await answer.arrayBuffer());
    };
    const manifest = await get(`manifests/${digest ?? tag ?? 'latest'}`);
    const { config, layers } = JSON.parse(manifest.toString()) as {
      config: { digest: string };
      layers: { digest: string }[];
    };
    let bytes = 0;
    for (const blob of [config, ...layers]) bytes += (await get(`blobs/${blob.digest}`)).length;
    return this.#keep(name, config.digest, digestOf(manifest), bytes);
  }

  #keep(name: string, id: string, digest: string, bytes: number): string {
    this.images.set(name, { id, digest, bytes });
    return id;
  }
}

function unary(
  method: MethodName,
  answer: (request: Message) => Promise<Message>,
): { definition: ServiceDefinition; implementation: UntypedServiceImplementation } {
  const { path, request, response } = METHODS[method];
  const handle: handleUnaryCall<Message, Message> = (call, done) => {
    answer(call.request).then(
      (message) => done(null, message),
      (error: Partial<ServiceError>) =>
        done({ code: error.code ?? status.UNKNOWN, details: error.details ?? error.message ?? '' }),
    );
  };
  return {
    definition: {
      [method]: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: (message: Message) => encodeMessage(request, message),
        requestDeserialize: (bytes: Buffer) => decodeMessage(request, bytes),
        responseSerialize: (message: Message) => encodeMessage(response, message),
        responseDeserialize: (bytes: Buffer) => decodeMessage(response, bytes),
      },
    },
    implementation: { [method]: handle },
  };
}

function shown(name: string, { id, digest, bytes }: { id: string; digest: string; bytes: number }): Message {
  const { registry, repository } = parseImageRef(name);
  return {
    id,
    repoTags: name.includes('@') ? [] : [name],
    repoDigests: [`${registry}/${repository}@${digest}`],
    size: bytes,
  };
}

function imageOf(request: Message): string {
  const { image } = request as { image?: { image?: string } };
  return image?.image ?? '';
}
