/** The Lease that replicas agree by, as Kubernetes' own leader election writes it. */
import { type JsonObject, numberAt, stringAt } from './objects.ts';

/** The newest term's epoch; with it a new leader's epoch is over every one before, whoever had it. */
const EPOCH_ANNOTATION = 'tidepool.dev/epoch';
/** Where the leader's API answers. */
const API_ANNOTATION = 'tidepool.dev/api';

export interface LeaseRecord {
  /** Empty when it was given up. */
  readonly holder: string;
  readonly durationMs: number;
  /** As written; two that differ are two renewals. Whose clock wrote it does not matter. */
  readonly renewTime: string;
  readonly transitions: number;
  readonly epoch: number;
  readonly api: string | undefined;
  /** For the compare-and-swap. */
  readonly resourceVersion: string;
}

export function parseLease(lease: unknown): LeaseRecord {
  const epoch = Number(stringAt(lease, 'metadata', 'annotations', EPOCH_ANNOTATION) ?? 0);
  return {
    holder: stringAt(lease, 'spec', 'holderIdentity') ?? '',
    durationMs: (numberAt(lease, 'spec', 'leaseDurationSeconds') ?? 0) * 1000,
    renewTime: stringAt(lease, 'spec', 'renewTime') ?? '',
    transitions: numberAt(lease, 'spec', 'leaseTransitions') ?? 0,
    epoch: Number.isSafeInteger(epoch) && epoch > 0 ? epoch : 0,
    api: stringAt(lease, 'metadata', 'annotations', API_ANNOTATION),
    resourceVersion: stringAt(lease, 'metadata', 'resourceVersion') ?? '',
  };
}

export interface LeaseWrite {
  readonly namespace: string;
  readonly name: string;
  /** Undefined gives it up. */
  readonly holder: string | undefined;
  readonly durationMs: number;
  readonly transitions: number;
  readonly epoch: number;
  readonly api: string;
  /** Wall clock, ms. */
  readonly acquiredAt: number;
  readonly now: number;
  /** Undefined for a lease that shall not exist yet. */
  readonly resourceVersion: string | undefined;
}

export function leaseObject(write: LeaseWrite): JsonObject {
  const { namespace, name, holder, resourceVersion } = write;
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: {
      namespace,
      name,
      annotations: { [EPOCH_ANNOTATION]: String(write.epoch), [API_ANNOTATION]: write.api },
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    spec: {
      ...(holder === undefined ? {} : { holderIdentity: holder }),
      leaseDurationSeconds: Math.max(1, Math.round(write.durationMs / 1000)),
      leaseTransitions: write.transitions,
      acquireTime: microTime(write.acquiredAt),
      renewTime: microTime(write.now),
    },
  };
}

/** RFC 3339 with exactly six digits, which MicroTime insists on. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
