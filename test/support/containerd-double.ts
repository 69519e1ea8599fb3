import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  CONTENT_METHODS,
  type ContentMethod,
  decodeContentMessage,
  encodeContentMessage,
} from '../../edge/runtime/containerd/content-messages.ts';
import { ContentDirectory } from './content-directory.ts';

type Message = Readonly<Record<string, unknown>>;

interface Image {
  readonly digest: string;
  readonly mediaType: string;
  readonly labels: Record<string, string>;
}

/** Stands where containerd would: its own gRPC on a unix socket, and its content store beside it. */
export class ContainerdDouble {
  readonly content: ContentDirectory;
  readonly images = new Map<string, Map<string, Image>>();
  /** Of blobs, by namespace and digest: where they were fetched from. */
  readonly sources = new Map<string, Record<string, string>>();
  readonly #directory = mkdtempSync(join(tmpdir(), 'containerd-'));
  readonly #server = new Server();

  constructor() {
    this.content = new ContentDirectory(join(this.#directory, 'content'));
  }

  get socket(): string {
    return join(this.#directory, 'containerd.sock');
  }

  async start(): Promise<void> {
    const handlers: Record<ContentMethod, (request: Message, namespace: string) => Message> = {
      namespaces: () => ({ namespaces: [...this.images.keys()].map((name) => ({ name })) }),
      images: (_, namespace) => ({
        images: [...(this.images.get(namespace) ?? [])].map(([name, { digest, mediaType, labels }]) => ({
          name,
          labels,
          target: { digest, mediaType, size: 1 },
        })),
      }),
      getImage: ({ name }, namespace) => {
        const found = this.images.get(namespace)?.get(String(name));
        if (found === undefined)
          throw Object.assign(new Error(`image ${String(name)}: not found`), { code: status.NOT_FOUND });
        const { digest, mediaType, labels } = found;
        return { image: { name, labels, target: { digest, mediaType, size: 1 } } };
      },
      updateImage: ({ image }, namespace) => {
        const { name, labels, target } = image as {
          name: string;
          labels: Record<string, string>;
          target: { digest: string } | null;
        };
        if (target === null || target.digest === '') throw new Error('a real containerd would crash');
        const found = this.images.get(namespace)?.get(name);
        if (found === undefined)
          throw Object.assign(new Error(`image ${name}: not found`), { code: status.NOT_FOUND });
        Object.assign(found.labels, labels);
        return {};
      },
      info: ({ digest }, namespace) => {
        const labels = this.sources.get(`${namespace} ${String(digest)}`);
        return { info: { digest, labels: labels ?? {} } };
      },
    };
    for (const method of ['namespaces', 'images', 'getImage', 'updateImage', 'info'] as const) {
      const { definition, implementation } = unary(method, handlers[method]);
      this.#server.addService(definition, implementation);
    }
    await new Promise<void>((resolve, reject) =>
      this.#server.bindAsync(`unix://${this.socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  }

  async stop(): Promise<void> {
    this.#server.forceShutdown();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  name(
    name: string,
    image: { readonly digest: string; readonly mediaType: string },
    namespace = 'k8s.io',
  ): void {
    const images = this.images.get(namespace) ?? new Map<string, Image>();
    images.set(name, { digest: image.digest, mediaType: image.mediaType, labels: {} });
    this.images.set(namespace, images);
  }
}

function unary(
  method: ContentMethod,
  answer: (request: Message, namespace: string) => Message,
): { definition: ServiceDefinition; implementation: UntypedServiceImplementation } {
  const { path, request, response } = CONTENT_METHODS[method];
  const handle: handleUnaryCall<Message, Message> = (call, callback) => {
    try {
      callback(null, answer(call.request, namespaceOf(call.metadata)));
    } catch (error) {
      callback(error as ServiceError);
    }
  };
  return {
    definition: {
      [method]: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: Message) => encodeContentMessage(request, value),
        requestDeserialize: (bytes: Buffer) => decodeContentMessage(request, bytes),
        responseSerialize: (value: Message) => encodeContentMessage(response, value),
        responseDeserialize: (bytes: Buffer) => decodeContentMessage(response, bytes),
      },
    },
    implementation: { [method]: handle },
  };
}

function namespaceOf(metadata: Metadata): string {
  return String(metadata.get('containerd-namespace')[0] ?? '');
}
