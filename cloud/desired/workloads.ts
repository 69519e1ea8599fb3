/** Workloads that stand among the documents, for hubs that follow them without Kubernetes. */
import * as z from 'zod';
import { checkYaml, type LocatedYaml, type Offence } from '../../shared/config-file.ts';
import type { DesiredWorkload } from './types.ts';

/** More images than that has no pod. */
const MAX_IMAGES = 100;

type Kind = DesiredWorkload['kind'];
const API_GROUP: Readonly<Record<Kind, string>> = {
  Deployment: 'apps/',
  DaemonSet: 'apps/',
  StatefulSet: 'apps/',
  YurtAppSet: 'apps.openyurt.io/',
};

const container = z.looseObject({ image: z.string().min(1).optional() });
const pod = z.looseObject({
  containers: z.array(container).min(1),
  initContainers: z.array(container).nullish(),
  imagePullSecrets: z.array(z.looseObject({ name: z.string() })).nullish(),
  nodeSelector: z.record(z.string(), z.string()).nullish(),
});
type Pod = z.infer<typeof pod>;
const template = z.looseObject({ spec: z.looseObject({ template: z.looseObject({ spec: pod }) }) });
const yurtTemplate = z.looseObject({
  deploymentTemplate: template.nullish(),
  statefulSetTemplate: template.nullish(),
});

const metadata = z.looseObject({
  name: z.string().min(1).max(253),
  namespace: z.string().max(63).optional(),
});
const plain = z.looseObject({ metadata, spec: template.shape.spec });
/** `spec.workload` in v1beta1, `spec.workloadTemplate` in v1alpha1. */
const yurtAppSet = z.looseObject({
  metadata,
  spec: z.looseObject({
    workloadTemplate: yurtTemplate.optional(),
    workload: z
      .looseObject({
        workloadTemplate: yurtTemplate,
        workloadTweaks: z
          .array(
            z.looseObject({
              tweaks: z.looseObject({
                containerImages: z.array(z.looseObject({ targetImage: z.string().min(1) })).nullish(),
              }),
            }),
          )
          .nullish(),
      })
      .optional(),
  }),
});

export function isWorkloadKind(kind: string): kind is Kind {
  return Object.hasOwn(API_GROUP, kind);
}

/**
 * What of a workload tells which images come to which nodes.
 * @param source where it stands, for later messages about it
 */
export function projectWorkload(
  kind: Kind,
  document: LocatedYaml,
  source: string,
): { readonly workload: DesiredWorkload } | { readonly offences: readonly Offence[] } {
  const group = API_GROUP[kind];
  const versioned = z.looseObject({
    apiVersion: z.string().startsWith(group, `expected ${group}<version>`),
  });
  const outline = checkYaml(versioned, document);
  if ('offences' in outline) return outline;
  if (kind === 'YurtAppSet') {
    const set = checkYaml(yurtAppSet, document);
    if ('offences' in set) return set;
    const { workload, workloadTemplate } = set.value.spec;
    const templates = workload?.workloadTemplate ?? workloadTemplate;
    const pods = [templates?.deploymentTemplate, templates?.statefulSetTemplate].flatMap(
      (each) => each?.spec.template.spec ?? [],
    );
    // Pools may have images of their own.
    const tweaked = (workload?.workloadTweaks ?? []).flatMap(({ tweaks }) =>
      (tweaks.containerImages ?? []).map(({ targetImage }) => targetImage),
    );
    return { workload: workloadOf(kind, set.value.metadata, pods, tweaked, source) };
  }
  const checked = checkYaml(plain, document);
  if ('offences' in checked) return checked;
  const { metadata: about, spec } = checked.value;
  return { workload: workloadOf(kind, about, [spec.template.spec], [], source) };
}

function workloadOf(
  kind: Kind,
  { name, namespace = 'default' }: z.infer<typeof metadata>,
  pods: readonly Pod[],
  moreImages: readonly string[],
  source: string,
): DesiredWorkload {
  const images = pods.flatMap(({ initContainers, containers }) =>
    [...(initContainers ?? []), ...containers].flatMap(({ image }) => image ?? []),
  );
  return {
    kind,
    namespace,
    name,
    images: [...new Set([...images, ...moreImages])].slice(0, MAX_IMAGES),
    nodeSelector: Object.assign({}, ...pods.map((each) => each.nodeSelector ?? {})),
    pullSecrets: [
      ...new Set(pods.flatMap((each) => (each.imagePullSecrets ?? []).map(({ name: secret }) => secret))),
    ],
    source,
  };
}
