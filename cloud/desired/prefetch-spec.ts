/** `spec` of an ImagePrefetch; charts/tidepool/crds/imageprefetches.yaml says the same to Kubernetes. */
import * as z from 'zod';
import { checkYaml } from '../../shared/config-file.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { parseDuration } from '../../shared/units.ts';
import {
  digest,
  type MatchExpression,
  matchExpression,
  nodeName,
  poolName,
} from '../../shared/wire/messages/fields.ts';
import type { CompletionPolicy, DesiredPrefetch } from './types.ts';

/** An image list that long does not fit one message. */
const MAX_IMAGES = 100;
const MAX_YEAR_SECONDS = 31_536_000;

const labelValue = z.string().max(63);
const objectName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, "expected lower-case letters, digits, '-' and '.'");
const count = z.number().int().min(1).max(100_000);

const imageName = z
  .string()
  .max(512)
  .superRefine((text, context) => {
    try {
      parseImageRef(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
    }
  });
const platform = z
  .string()
  .max(64)
  .regex(/^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9]+)?$/, 'expected os/arch or os/arch/variant, as in linux/arm64');
const prefetchImage = z.strictObject({
  image: imageName,
  digest: digest.optional(),
  platforms: z.array(platform).max(16).optional(),
});
const expression = matchExpression
  .extend({
    key: z.string().min(1).max(317),
    value: labelValue.optional(),
    values: z.array(labelValue).min(1).max(1000).optional(),
  })
  .refine(
    ({ operator, value, values }) =>
      (operator === 'In' || operator === 'NotIn') === (value !== undefined || values !== undefined),
    'In and NotIn need value or values; Exists and DoesNotExist take none',
  );

const retention = z
  .string()
  .regex(
    /^(0|[0-9]{1,8}s|[0-9]{1,6}m|[0-9]{1,5}h|[0-9]{1,4}d)$/,
    'expected a time like 12h or 30d, or 0; left out, images are kept while the job stands',
  );

/** An id becomes one level of a topic and one file name. */
export const prefetchId = z
  .string()
  .max(200)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, "expected lower-case letters, digits, '-' and '.'");

const selector = z.strictObject({
  nodePools: z.array(poolName).min(1).max(1000).optional(),
  names: z.array(nodeName).min(1).max(10_000).optional(),
  matchLabels: z
    .record(z.string(), labelValue)
    .refine((labels) => Object.keys(labels).length <= 100, 'at most 100 labels')
    .optional(),
  matchExpressions: z.array(expression).max(100).optional(),
  workloadRef: z
    .strictObject({
      kind: z.enum(['Deployment', 'DaemonSet', 'StatefulSet', 'YurtAppSet']),
      namespace: z
        .string()
        .max(63)
        .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'expected the name of a namespace'),
      name: objectName,
    })
    .optional(),
});

const completionPolicy = z
  .strictObject({
    type: z.enum(['Always', 'Never']).default('Always'),
    ttlSecondsAfterFinished: z.number().int().min(0).max(MAX_YEAR_SECONDS).optional(),
    activeDeadlineSeconds: z.number().int().min(1).max(MAX_YEAR_SECONDS).optional(),
  })
  .refine(
    ({ type, ttlSecondsAfterFinished, activeDeadlineSeconds }) =>
      type !== 'Never' || (ttlSecondsAfterFinished === undefined && activeDeadlineSeconds === undefined),
    'a job of type Never does not finish, so it takes no ttlSecondsAfterFinished and no activeDeadlineSeconds',
  );

export const prefetchSpec = z
  .strictObject({
    images: z
      .array(z.preprocess((value) => (typeof value === 'string' ? { image: value } : value), prefetchImage))
      .min(1)
      .max(MAX_IMAGES),
    selector: selector.default({}),
    parallelism: z.strictObject({ pools: count.optional(), nodesPerPool: count.optional() }).optional(),
    suspend: z.boolean().default(false),
    pullPolicy: z
      .strictObject({
        timeoutSeconds: z.number().positive().max(86_400).default(600),
        backoffLimit: z.number().int().min(0).max(100).default(3),
      })
      .prefault({}),
    failureTolerance: z
      .union([
        z.number().int().min(0),
        z.string().regex(/^(100|[0-9]{1,2})%$/, 'expected a number of nodes, or a percentage like 10%'),
      ])
      .optional(),
    completionPolicy: completionPolicy.optional(),
    // What cron and time zone mean is looked at later: a typo there is told in the job's status.
    schedule: z
      .strictObject({
        cron: z.string().min(1).max(200),
        timeZone: z.string().min(1).max(64).default('UTC'),
      })
      .optional(),
    retain: retention.optional(),
    pullSecrets: z.array(objectName).max(10).optional(),
    dryRun: z.boolean().default(false),
  })
  .refine(
    ({ schedule, completionPolicy: policy }) =>
      schedule === undefined || policy?.ttlSecondsAfterFinished === undefined,
    'a job with a schedule never ends, so completionPolicy.ttlSecondsAfterFinished has no meaning',
  )
  .refine(
    ({ schedule, dryRun }) => schedule === undefined || !dryRun,
    'a dry run answers once; take the schedule out',
  );
export type PrefetchSpec = z.infer<typeof prefetchSpec>;

/** A spec that came over the API. @throws TidepoolError INVALID_ARGUMENT */
export function checkedSpec(written: unknown): PrefetchSpec {
  const result = checkYaml(prefetchSpec, { line: 1, errors: [], value: written, lineOf: () => 1 });
  if ('value' in result) return result.value;
  throw new TidepoolError('INVALID_ARGUMENT', result.offences.map(({ message }) => message).join('; '));
}

/** Of a document's metadata, as Kubernetes fills it in. */
export interface DocumentMetadata {
  readonly generation?: number | undefined;
  readonly uid?: string | undefined;
  readonly creationTimestamp?: string | undefined;
}

export function toPrefetch(
  id: string,
  spec: PrefetchSpec,
  source: string,
  metadata: DocumentMetadata = {},
): DesiredPrefetch {
  const { nodePools, names, matchLabels, matchExpressions, workloadRef } = spec.selector;
  const match: MatchExpression[] = [
    ...Object.entries(matchLabels ?? {}).map(([key, value]) => ({ key, operator: 'In' as const, value })),
    ...(matchExpressions ?? []),
  ];
  const { failureTolerance, schedule, pullSecrets = [] } = spec;
  const completion = toCompletion(spec.completionPolicy);
  const createdAt = Date.parse(metadata.creationTimestamp ?? '');
  const parallelism = {
    ...(spec.parallelism?.pools === undefined ? {} : { pools: spec.parallelism.pools }),
    ...(spec.parallelism?.nodesPerPool === undefined ? {} : { nodesPerPool: spec.parallelism.nodesPerPool }),
  };
  return {
    id,
    images: spec.images,
    selector: {
      ...(nodePools === undefined ? {} : { nodePools }),
      ...(names === undefined ? {} : { names }),
      match,
      ...(workloadRef === undefined ? {} : { workloadRef }),
    },
    suspend: spec.suspend,
    timeoutMs: spec.pullPolicy.timeoutSeconds * 1000,
    retries: spec.pullPolicy.backoffLimit,
    ...(Object.keys(parallelism).length === 0 ? {} : { parallelism }),
    ...(failureTolerance === undefined ? {} : { failureTolerance }),
    ...(completion === undefined ? {} : { completion }),
    ...(schedule === undefined ? {} : { schedule }),
    ...(pullSecrets.length === 0 ? {} : { pullSecrets }),
    ...(spec.retain === undefined ? {} : { retainMs: parseDuration(spec.retain) }),
    ...(spec.dryRun ? { dryRun: true } : {}),
    ...(metadata.generation === undefined ? {} : { observedGeneration: metadata.generation }),
    ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
    ...(Number.isNaN(createdAt) ? {} : { createdAt }),
    source,
  };
}

function toCompletion(policy: PrefetchSpec['completionPolicy']): CompletionPolicy | undefined {
  if (policy === undefined) return undefined;
  const { type, ttlSecondsAfterFinished: ttl, activeDeadlineSeconds: deadline } = policy;
  return {
    type,
    ...(ttl === undefined ? {} : { ttlMs: ttl * 1000 }),
    ...(deadline === undefined ? {} : { activeDeadlineMs: deadline * 1000 }),
  };
}
