import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { z } from 'zod';
import { TidepoolError } from '../../../shared/errors.ts';
import { CONTENT_CALL_MS, MAX_ANSWER_BYTES } from './content-constants.ts';
import {
  CONTENT_METHODS,
  type ContentMethod,
  decodeContentMessage,
  encodeContentMessage,
} from './content-messages.ts';
import type { ContainerdConnection, ContainerdImage } from './content-types.ts';

type Answer<M extends ContentMethod> = z.output<(typeof CONTENT_METHODS)[M]['schema']>;

/** containerd's own gRPC. Loaded only where it is talked to: the libraries cost an idle agent megabytes. */
export class ContentConnection implements ContainerdConnection {
  readonly #socket: string;
  readonly #client: Client;

  constructor(socket: string) {
    this.#socket = socket;
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
      // A proxy of the environment is for the network.
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  async namespaces(signal: AbortSignal): Promise<readonly string[]> {
    const { namespaces } = await this.#call('namespaces', {}, undefined, signal);
    return namespaces.map(({ name }) => name);
  }

  async images(namespace: string, signal: AbortSignal): Promise<readonly ContainerdImage[]> {
    const { images } = await this.#call('images', {}, namespace, signal);
    return images.flatMap(({ name, labels, target }) =>
      target ? [{ name, labels, mediaType: target.mediaType, digest: target.digest }] : [],
    );
  }

  async labels(
    namespace: string,
    digest: string,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, string>> | undefined> {
    try {
      const { info } = await this.#call('info', { digest }, namespace, signal);
      return info?.labels ?? {};
    } catch (error) {
      if (error instanceof TidepoolError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async label(
    namespace: string,
    image: string,
    [name, value]: readonly [string, string],
    signal: AbortSignal,
  ): Promise<void> {
    const { image: found } = await this.#call('getImage', { name: image }, namespace, signal);
    if (!found?.target) throw new TidepoolError('NOT_FOUND', `containerd has no image ${image}`);
    // containerd 2.2 crashes on an image without its target, though the mask leaves that as it is.
    const request = {
      image: { name: image, labels: { [name]: value }, target: found.target },
      updateMask: { paths: [`labels.${name}`] },
    };
    await this.#call('updateImage', request, namespace, signal);
  }

  close(): void {
    this.#client.close();
  }

  #call<M extends ContentMethod>(
    method: M,
    request: Readonly<Record<string, unknown>>,
    namespace: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer<M>> {
    const { path, request: requestType, response, schema } = CONTENT_METHODS[method];
    const metadata = new Metadata();
    if (namespace !== undefined) metadata.set('containerd-namespace', namespace);
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        path,
        (value: Readonly<Record<string, unknown>>) => encodeContentMessage(requestType, value),
        // Checked by its schema: what comes over the socket is another program's.
        (bytes) => schema.parse(decodeContentMessage(response, bytes)) as Answer<M>,
        request,
        metadata,
        { deadline: Date.now() + CONTENT_CALL_MS },
        (error, answer) => {
          signal.removeEventListener('abort', onAbort);
          if (error === null && answer !== undefined) resolve(answer);
          else if (signal.aborted) reject(signal.reason);
          else reject(this.#failure(method, error));
        },
      );
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  #failure(method: string, error: ServiceError | null): TidepoolError {
    const why = error?.details.slice(0, 1_000) || error?.message || 'an empty answer';
    const message = `containerd at ${this.#socket} failed at ${method}: ${why}`;
    const init = { ...(error === null ? {} : { cause: error }), details: { method, grpc: error?.code } };
    switch (error?.code) {
      case status.NOT_FOUND:
        return new TidepoolError('NOT_FOUND', message, init);
      case status.DEADLINE_EXCEEDED:
        return new TidepoolError('TIMEOUT', message, init);
      default:
        return new TidepoolError('RUNTIME_ERROR', message, init);
    }
  }
}
