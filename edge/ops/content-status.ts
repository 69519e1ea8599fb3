import { Counter, Gauge, type Registry } from 'prom-client';

/** What lies in containerd's own content store. */
export interface ContentStatus {
  readonly directory: string;
  readonly state: 'absent' | 'listing' | 'watching';
  readonly problem: string | null;
  /** Files, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
  /** Of these, those whose bytes were read through and are right. */
  readonly checked: number;
  readonly checkedBytes: number;
  /** Whose bytes are not what their names say. */
  readonly wrong: number;
  /** Names of images, and of these those whose content is told of under that name. */
  readonly images: number;
  readonly sharedImages: number;
  /** Bytes that the agent no longer keeps a second time. */
  readonly releasedBytes: number;
}

/** Sets the metrics of it from what is so now; none where it is not shared. */
export function contentMetrics(registers: Registry[]): (status: ContentStatus | undefined) => void {
  const bytes = new Gauge({
    name: 'tidepool_runtime_content_bytes',
    help: "Bytes in containerd's content store; checked: read through and right, and so shared.",
    labelNames: ['state'],
    registers,
  });
  const wrong = new Gauge({
    name: 'tidepool_runtime_content_wrong_blobs',
    help: "Blobs in containerd's content store that do not match their digests.",
    registers,
  });
  const images = new Gauge({
    name: 'tidepool_runtime_content_images',
    help: 'Names of images in containerd; shared: whose content neighbours may have under that name.',
    labelNames: ['state'],
    registers,
  });
  const watched = new Gauge({
    name: 'tidepool_runtime_content_watched',
    help: "1 while containerd's content store is there and watched.",
    registers,
  });
  const released = new Counter({
    name: 'tidepool_runtime_content_released_bytes_total',
    help: 'Bytes that are no longer kept a second time, since containerd has them.',
    registers,
  });
  return (status) => {
    released.reset();
    if (status === undefined) return;
    bytes.set({ state: 'all' }, status.bytes);
    bytes.set({ state: 'checked' }, status.checkedBytes);
    wrong.set(status.wrong);
    images.set({ state: 'all' }, status.images);
    images.set({ state: 'shared' }, status.sharedImages);
    watched.set(status.state === 'watching' ? 1 : 0);
    released.inc(status.releasedBytes);
  };
}
