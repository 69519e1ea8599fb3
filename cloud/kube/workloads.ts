import type { DesiredWorkload } from '../desired/types.ts';
import { at, isRecord, listAt, stringAt, stringsAt } from './objects.ts';

/** More images than that has no pod. */
const MAX_IMAGES = 100;

/** What of a workload tells which images come to which nodes. */
export function workloadOf(kind: DesiredWorkload['kind'], object: unknown): DesiredWorkload {
  const namespace = stringAt(object, 'metadata', 'namespace') ?? '';
  const name = stringAt(object, 'metadata', 'name') ?? '';
  const pods = kind === 'YurtAppSet' ? yurtTemplates(object) : [at(object, 'spec', 'template', 'spec')];
  const images = new Set<string>();
  const pullSecrets = new Set<string>();
  const nodeSelector: Record<string, string> = {};
  for (const pod of pods) {
    for (const container of [...listAt(pod, 'initContainers'), ...listAt(pod, 'containers')]) {
      const image = stringAt(container, 'image');
      if (image !== undefined && image !== '') images.add(image);
    }
    for (const secret of listAt(pod, 'imagePullSecrets')) {
      const secretName = stringAt(secret, 'name');
      if (secretName !== undefined) pullSecrets.add(secretName);
    }
    Object.assign(nodeSelector, stringsAt(pod, 'nodeSelector'));
  }
  if (kind === 'YurtAppSet') for (const image of tweakedImages(object)) images.add(image);
  return {
    kind,
    namespace,
    name,
    images: [...images].slice(0, MAX_IMAGES),
    nodeSelector,
    pullSecrets: [...pullSecrets],
    source: `${kind} ${namespace}/${name}`,
  };
}

/** Pod specs of a YurtAppSet: `spec.workload.workloadTemplate` in v1beta1, `spec.workloadTemplate` in v1alpha1. */
function yurtTemplates(object: unknown): readonly unknown[] {
  const template =
    at(object, 'spec', 'workload', 'workloadTemplate') ?? at(object, 'spec', 'workloadTemplate');
  return ['deploymentTemplate', 'statefulSetTemplate'].flatMap((each) => {
    const pod = at(template, each, 'spec', 'template', 'spec');
    return isRecord(pod) ? [pod] : [];
  });
}

/** Pools may have images of their own. */
function tweakedImages(object: unknown): readonly string[] {
  return listAt(object, 'spec', 'workload', 'workloadTweaks').flatMap((tweak) =>
    listAt(tweak, 'tweaks', 'containerImages').flatMap((each) => stringAt(each, 'targetImage') ?? []),
  );
}
