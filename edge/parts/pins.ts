/** Images of prefetch jobs, kept by the container runtime while the jobs stand. */
import type { Clock } from '../../shared/clock.ts';
import { formatImageRef, parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { DocumentTable } from '../index/types.ts';
import { ImagePins } from '../runtime/containerd/image-pins.ts';
import { PinKeeper } from '../runtime/containerd/pin-keeper.ts';

interface PinParts {
  readonly documents: Pick<DocumentTable, 'get' | 'put'>;
  /** As the jobs have them. */
  readonly images: () => readonly { readonly image: string }[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

/** `socket`: containerd's; undefined where there is none. */
export function makePinKeeper(
  { documents, images, ...rest }: PinParts,
  init: { readonly socket: string | undefined },
): PinKeeper {
  const connect = async (socket: string) => {
    const { ContentConnection } = await import('../runtime/containerd/content-connection.ts');
    return new ContentConnection(socket);
  };
  return new PinKeeper({
    ...rest,
    pins: new ImagePins({ connect }, init),
    kept: documents,
    wanted: () => images().map(({ image }) => formatImageRef(parseImageRef(image))),
  });
}
