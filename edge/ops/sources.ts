/** What the ops server asks the agent's parts; the composition root ties them together. */
import type { ImageRef } from '../../shared/image-ref.ts';
import type { Credentials } from '../origin/types.ts';
import type { ManifestAnswer } from '../transfer/types.ts';
import type { AgentStatus, BlobListView, HealthCheck, PullCounts, RuntimeStatus } from './api.ts';

export interface PullOutcome extends PullCounts {
  readonly digest: string;
  readonly manifests: readonly string[];
  readonly staleSince?: number;
  readonly imageId?: string;
}

export interface OpsSources {
  /** Whether the process can serve at all; a failure asks for a restart. */
  health(): readonly HealthCheck[];
  /** Whether runtimes may be sent here now. */
  readiness(): readonly HealthCheck[];
  status(): AgentStatus;
  /** At most `limit` blobs. */
  blobs(limit: number): BlobListView;
  /** Tests now whether the container runtime uses the mirror. @throws TidepoolError ABORTED */
  selfTest(): Promise<RuntimeStatus>;
  /** @throws TidepoolError for platforms that are none, and what a pull throws */
  pull(
    request: {
      readonly image: ImageRef;
      readonly platforms: readonly string[];
      readonly credentials: Credentials | undefined;
      /** Into the container runtime as well. */
      readonly runtime: boolean;
      readonly onProgress: (counts: PullCounts) => void;
    },
    signal: AbortSignal,
  ): Promise<PullOutcome>;
  manifest(
    request: { readonly image: ImageRef; readonly credentials: Credentials | undefined },
    signal: AbortSignal,
  ): Promise<ManifestAnswer>;
}
