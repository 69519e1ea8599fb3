import { existsSync } from 'node:fs';
import { isTidepoolError } from '../../../shared/errors.ts';
import type { ConnectContainerd } from './content-types.ts';

/** What containerd's CRI plugin (1.7.3 and later) shows to kubelet as pinned: kubelet's image garbage collection leaves it. */
const PINNED_LABEL = 'io.cri-containerd.pinned';
/** Where the CRI plugin keeps its images. */
const CRI_NAMESPACE = 'k8s.io';

/** Keeps images in the runtime while the node is short of disk: CRI itself has no call for that. */
export class ImagePins {
  readonly #connect: ConnectContainerd;
  readonly #socket: string | undefined;

  /** `socket`: containerd's; undefined where there is none. */
  constructor(
    components: { readonly connect: ConnectContainerd },
    init: { readonly socket: string | undefined },
  ) {
    this.#connect = components.connect;
    this.#socket = init.socket;
  }

  /**
   * Pins an image under the name that pods use. False where the runtime has no image of that name, or there is no runtime.
   * @throws TidepoolError RUNTIME_ERROR for a runtime that is not containerd, TIMEOUT, or the signal's reason
   */
  pin(image: string, signal: AbortSignal): Promise<boolean> {
    return this.#label(image, 'pinned', signal);
  }

  /** From now on kubelet may delete it again. */
  unpin(image: string, signal: AbortSignal): Promise<boolean> {
    return this.#label(image, '', signal);
  }

  async #label(image: string, value: string, signal: AbortSignal): Promise<boolean> {
    if (this.#socket === undefined || !existsSync(this.#socket)) return false;
    const connection = await this.#connect(this.#socket);
    try {
      await connection.label(CRI_NAMESPACE, image, [PINNED_LABEL, value], signal);
      return true;
    } catch (error) {
      if (isTidepoolError(error, 'NOT_FOUND')) return false;
      throw error;
    } finally {
      connection.close();
    }
  }
}
