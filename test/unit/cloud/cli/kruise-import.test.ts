import { describe, expect, it } from 'vitest';
import { importPullJobs } from '../../../../cloud/cli/kruise-import.ts';
import { prefetchSpec } from '../../../../cloud/desired/prefetch-spec.ts';

const job = (spec: string, kind = 'ImagePullJob'): string =>
  `apiVersion: apps.kruise.io/v1alpha1\nkind: ${kind}\nmetadata: {name: job}\nspec: ${spec}\n`;

describe('importPullJobs', () => {
  it('takes over what has a counterpart, and the hub takes the answer', () => {
    const [found] = importPullJobs(
      job(`{image: "nginx:1.25", parallelism: 10, pullSecrets: [registry],
        selector: {names: [n1], matchLabels: {disk: ssd}, matchExpressions: [{key: a, operator: In, values: [b]}]},
        pullPolicy: {timeoutSeconds: 300, backoffLimit: 2},
        completionPolicy: {type: Always, activeDeadlineSeconds: 1200, ttlSecondsAfterFinished: 300}}`),
      'job.yaml',
    );
    expect(found?.spec).toEqual({
      images: [{ image: 'nginx:1.25' }],
      selector: {
        names: ['n1'],
        matchLabels: { disk: 'ssd' },
        matchExpressions: [{ key: 'a', operator: 'In', values: ['b'] }],
      },
      parallelism: { nodesPerPool: 10 },
      pullPolicy: { timeoutSeconds: 300, backoffLimit: 2 },
      completionPolicy: { type: 'Always', activeDeadlineSeconds: 1200, ttlSecondsAfterFinished: 300 },
      pullSecrets: ['registry'],
    });
    expect(prefetchSpec.safeParse(found?.spec).success).toBe(true);
  });

  it.each([
    ['{image: a, podSelector: {matchLabels: {a: b}}}', /podSelector has no counterpart/],
    ['{image: a, sandboxConfig: {labels: {a: b}}}', /sandboxConfig has no counterpart/],
    ['{image: a, imagePullPolicy: Always}', /imagePullPolicy Always is left out/],
    ['{image: a, parallelism: "10%"}', /parallelism "10%" has no counterpart/],
    ['{image: a, parallelism: 0}', /pauses the job/],
    [
      '{image: a, completionPolicy: {type: Never, ttlSecondsAfterFinished: 1}}',
      /type Never takes no deadline/,
    ],
    ['{image: a, somethingNew: 1}', /spec\.somethingNew has no counterpart/],
  ])('warns of %s', (spec, warning) => {
    const [found] = importPullJobs(job(spec), 'job.yaml');
    expect(found?.warnings.join()).toMatch(warning);
    expect(prefetchSpec.safeParse(found?.spec).success).toBe(true);
  });

  it('reads lists of images and of jobs', () => {
    const [list] = importPullJobs(job('{images: [a, b]}', 'ImageListPullJob'), 'job.yaml');
    expect(list?.spec.images).toEqual([{ image: 'a' }, { image: 'b' }]);
    const text = `kind: List\nitems:\n- {apiVersion: apps.kruise.io/v1beta1, kind: ImagePullJob, metadata: {name: x}, spec: {image: a}}\n- {kind: Pod}\n`;
    expect(importPullJobs(text, 'job.yaml').map(({ name }) => name)).toEqual(['x']);
  });

  it.each([
    ['kind: Pod', /holds no ImagePullJob/],
    ['a: [', /job\.yaml:\d+:/],
    [job('{selector: {}}'), /names no image/],
  ])('refuses %s', (text, message) => {
    expect(() => importPullJobs(text, 'job.yaml')).toThrow(message);
  });
});
