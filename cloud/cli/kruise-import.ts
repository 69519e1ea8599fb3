import { parseYaml } from '../../shared/config-file.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';

export interface ImportedJob {
  readonly name: string;
  /** `spec` of an ImagePrefetch. */
  readonly spec: Readonly<Record<string, unknown>>;
  /** What could not be taken over, or means something else here. */
  readonly warnings: readonly string[];
}

type Fields = Readonly<Record<string, unknown>>;

const KINDS = ['ImagePullJob', 'ImageListPullJob'];

/**
 * Kruise ImagePullJobs (apps.kruise.io v1alpha1, v1beta1) of a YAML text as ImagePrefetches, the items of Lists too.
 * @throws TidepoolError INVALID_ARGUMENT for a text without such a job, or with one that names no image
 */
export function importPullJobs(text: string, file: string): readonly ImportedJob[] {
  const jobs: ImportedJob[] = [];
  for (const document of parseYaml(text)) {
    const [error] = document.errors;
    if (error !== undefined) throw refused(`${file}:${error.line}: ${error.message}`);
    for (const each of itemsOf(document.value)) {
      if (typeof each.kind === 'string' && KINDS.includes(each.kind)) jobs.push(importOne(each, file));
    }
  }
  if (jobs.length === 0) throw refused(`${file} holds no ${KINDS.join(' or ')} of apps.kruise.io`);
  return jobs;
}

function itemsOf(value: unknown): readonly Fields[] {
  const fields = fieldsOf(value);
  if (Array.isArray(fields.items)) return fields.items.map(fieldsOf);
  return [fields];
}

function importOne({ apiVersion, kind, metadata, spec: written }: Fields, file: string): ImportedJob {
  const { name, labels, annotations, ownerReferences } = fieldsOf(metadata);
  const spec = fieldsOf(written);
  if (typeof name !== 'string' || name === '') throw refused(`${file}: a ${String(kind)} without a name`);
  const warnings: string[] = [];
  const warn = (message: string): void => void warnings.push(`${name}: ${message}`);
  if (typeof apiVersion !== 'string' || !/^apps\.kruise\.io\/v1(alpha1|beta1)$/.test(apiVersion)) {
    warn(`apiVersion ${quote(String(apiVersion))} is not known; read as apps.kruise.io/v1alpha1`);
  }
  const known = new Set([
    'image',
    'images',
    'selector',
    'podSelector',
    'parallelism',
    'pullPolicy',
    'pullSecrets',
    'completionPolicy',
    'sandboxConfig',
    'imagePullPolicy',
  ]);
  for (const field of Object.keys(spec))
    if (!known.has(field)) warn(`spec.${field} has no counterpart and is left out`);
  for (const [field, value] of Object.entries({ labels, annotations, ownerReferences })) {
    if (value !== undefined) warn(`metadata.${field} is left out`);
  }
  const images = imagesOf(spec);
  if (images.length === 0) throw refused(`${file}: ${name} names no image`);
  const pullSecrets = strings(spec.pullSecrets);
  if (pullSecrets.length > 0) {
    warn(
      "spec.pullSecrets are read in the hub's namespace; nodes get their accounts for the prefetch, unless the hub runs with --insecure",
    );
  }
  if (spec.podSelector !== undefined) {
    warn(
      'spec.podSelector has no counterpart: name the workload in spec.selector.workloadRef; all nodes are selected without it',
    );
  }
  if (spec.sandboxConfig !== undefined) warn('spec.sandboxConfig has no counterpart and is left out');
  if (spec.imagePullPolicy === 'Always') {
    warn(
      'spec.imagePullPolicy Always is left out: tags are resolved anew for each job, and what is held already is not fetched again',
    );
  }
  return {
    name,
    spec: {
      images: images.map((image) => ({ image })),
      ...selectorOf(fieldsOf(spec.selector), warn),
      ...parallelismOf(spec.parallelism, warn),
      ...pullPolicyOf(fieldsOf(spec.pullPolicy), warn),
      ...completionOf(fieldsOf(spec.completionPolicy), warn),
      ...(pullSecrets.length === 0 ? {} : { pullSecrets }),
    },
    warnings,
  };
}

function imagesOf({ image, images }: Fields): readonly string[] {
  return [...(typeof image === 'string' && image !== '' ? [image] : []), ...strings(images)];
}

type Warn = (message: string) => void;

function selectorOf(selector: Fields, warn: Warn): Fields {
  const { names, matchLabels, matchExpressions, ...rest } = selector;
  for (const field of Object.keys(rest)) warn(`spec.selector.${field} has no counterpart and is left out`);
  const chosen = {
    ...(strings(names).length === 0 ? {} : { names: strings(names) }),
    ...(matchLabels === undefined ? {} : { matchLabels }),
    ...(matchExpressions === undefined ? {} : { matchExpressions }),
  };
  return Object.keys(chosen).length === 0 ? {} : { selector: chosen };
}

function parallelismOf(parallelism: unknown, warn: Warn): Fields {
  if (parallelism === undefined) return {};
  if (parallelism === 0) {
    warn('spec.parallelism 0 pauses the job: it becomes suspend: true');
    return { suspend: true };
  }
  if (typeof parallelism === 'number' && Number.isInteger(parallelism) && parallelism > 0) {
    warn(`spec.parallelism ${parallelism} counts nodes of the cluster; here it counts nodes of each pool`);
    return { parallelism: { nodesPerPool: parallelism } };
  }
  warn(`spec.parallelism ${quote(String(parallelism))} has no counterpart: all nodes start at once`);
  return {};
}

function pullPolicyOf({ timeoutSeconds, backoffLimit, ...rest }: Fields, warn: Warn): Fields {
  for (const field of Object.keys(rest)) warn(`spec.pullPolicy.${field} has no counterpart and is left out`);
  const policy = {
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    ...(backoffLimit === undefined ? {} : { backoffLimit }),
  };
  if (timeoutSeconds !== undefined) {
    warn('spec.pullPolicy.timeoutSeconds limits the time without a byte here, not that of the whole pull');
  }
  return Object.keys(policy).length === 0 ? {} : { pullPolicy: policy };
}

function completionOf(policy: Fields, warn: Warn): Fields {
  const { type, ttlSecondsAfterFinished, activeDeadlineSeconds, ...rest } = policy;
  for (const field of Object.keys(rest))
    warn(`spec.completionPolicy.${field} has no counterpart and is left out`);
  const never = type === 'Never';
  if (never && (ttlSecondsAfterFinished !== undefined || activeDeadlineSeconds !== undefined)) {
    warn(
      'spec.completionPolicy: a job of type Never takes no deadline and no time to live; they are left out',
    );
  }
  if (!never && activeDeadlineSeconds !== undefined) {
    warn(
      'spec.completionPolicy.activeDeadlineSeconds counts the time that each node is online here, not that of the job',
    );
  }
  const completionPolicy = {
    ...(type === undefined ? {} : { type }),
    ...(never || ttlSecondsAfterFinished === undefined ? {} : { ttlSecondsAfterFinished }),
    ...(never || activeDeadlineSeconds === undefined ? {} : { activeDeadlineSeconds }),
  };
  return Object.keys(completionPolicy).length === 0 ? {} : { completionPolicy };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : [];
}

function refused(message: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', message);
}
