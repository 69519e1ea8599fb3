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
