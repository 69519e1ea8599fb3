import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import type { z } from 'zod';
import { TidepoolError } from '../../../shared/errors.ts';
import { quote } from '../../../shared/ids.ts';
import { CALL_MS, MAX_MESSAGE_BYTES, PULL_MS } from './constants.ts';
import { decodeMessage, encodeMessage, METHODS, type MethodName } from './messages.ts';
import type { CallOptions, CriImage, PullAccount, RuntimeConnection } from './types.ts';

type Answer<M extends MethodName> = z.output<(typeof METHODS)[M]['schema']>;

/** gRPC over a unix socket. Loaded only where a runtime is talked to: the libraries cost an idle agent megabytes. */
export class GrpcConnection implements RuntimeConnection {
  readonly #socket: string;
  readonly #client: Client;

  constructor(socket: string) {
    this.#socket = socket;
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      // A proxy of the environment is for the network.
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  async version(options: CallOptions = {}) {
    const { runtimeName, runtimeVersion } = await this.#call('version', { version: 'v1' }, CALL_MS, options);
    return { name: runtimeName, version: runtimeVersion };
  }

  async imageStatus(image: string, options: CallOptions = {}): Promise<CriImage | undefined> {
    const { image: found } = await this.#call('imageStatus', { image: { image } }, CALL_MS, options);
    return found ? toImage(found) : undefined;
  }

  async listImages(options: CallOptions = {}): Promise<readonly CriImage[]> {
    const { images } = await this.#call('listImages', {}, CALL_MS, options);
    return images.map(toImage);
  }

  async listContainerImages(options: CallOptions = {}): Promise<readonly string[]> {
    const { containers } = await this.#call('listContainers', {}, CALL_MS, options);
    const names = containers.flatMap(({ imageRef, image }) => [imageRef, image?.image ?? '']);
    return [...new Set(names.filter((name) => name !== ''))];
  }

  async pullImage(
    image: string,
    { account, ...options }: CallOptions & { readonly account?: PullAccount | undefined } = {},
  ): Promise<string> {
    const request = { image: { image }, ...(account === undefined ? {} : { auth: account }) };
    const { imageRef } = await this.#call('pullImage', request, PULL_MS, options);
    return imageRef;
  }

  close(): void {
    this.#client.close();
  }

  #call<M extends MethodName>(
    method: M,
    request: Readonly<Record<string, unknown>>,
    defaultMs: number,
    { signal, timeoutMs = defaultMs }: CallOptions,
  ): Promise<Answer<M>> {
    const { path, request: requestType, response, schema } = METHODS[method];
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        path,
        (value: Readonly<Record<string, unknown>>) => encodeMessage(requestType, value),
        // Checked by its schema: what comes over the socket is another program's.
        (bytes) => schema.parse(decodeMessage(response, bytes)) as Answer<M>,
        request,
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          signal?.removeEventListener('abort', onAbort);
          if (error === null && answer !== undefined) resolve(answer);
          else if (signal?.aborted === true) reject(signal.reason);
          else reject(this.#failure(method, error, timeoutMs));
        },
      );
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #failure(method: string, error: ServiceError | null, timeoutMs: number): TidepoolError {
    const where = `the container runtime at ${this.#socket}`;
    const init = { ...(error === null ? {} : { cause: error }), details: { method, grpc: error?.code } };
    const why = error?.details.slice(0, 1_000) || error?.message || 'an empty answer';
    switch (error?.code) {
      case status.DEADLINE_EXCEEDED:
        return new TidepoolError(
          'TIMEOUT',
          `${where} has not answered ${method} in ${Math.round(timeoutMs / 1000)} s`,
          init,
        );
      case status.NOT_FOUND:
        return new TidepoolError('NOT_FOUND', `${where}: ${why}`, init);
      case status.UNIMPLEMENTED:
        return new TidepoolError(
          'RUNTIME_NOT_CONFIGURED',
          `${where} serves no CRI (${quote(why)}); for containerd take "cri" out of disabled_plugins in its config.toml`,
          init,
        );
      case status.UNAVAILABLE:
        return new TidepoolError('RUNTIME_ERROR', `${where} cannot be reached: ${why}`, init);
      default:
        return new TidepoolError('RUNTIME_ERROR', `${where} failed at ${method}: ${why}`, init);
    }
  }
}

function toImage(image: {
  id: string;
  repoTags: readonly string[];
  repoDigests: readonly string[];
  size: number;
}): CriImage {
  const { id, repoTags, repoDigests, size } = image;
  return { id, tags: repoTags, digests: repoDigests, bytes: size };
}
