import { describe, expect, it } from 'vitest';
import { assemble, readDocuments } from '../../../../cloud/documents/assemble.ts';

const read = (text: string) => assemble(new Map([['w.yaml', readDocuments('w.yaml', text, undefined)]]));
const pod = `
      initContainers: [{name: i, image: r.test/init:1}]
      containers: [{name: a, image: r.test/web:2}, {name: b, image: r.test/web:2}]
      imagePullSecrets: [{name: pull}]
      nodeSelector: {apps.openyurt.io/nodepool: alpha}`;
const deployment = (more = ''): string => `apiVersion: apps/v1
kind: Deployment
metadata: {name: web${more}}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:${pod}
`;

describe('workloads among the documents', () => {
  it('tells images, init containers first, and where pods may come to', () => {
    const { workloads, problems } = read(deployment());
    expect(problems).toEqual([]);
    expect(workloads).toEqual([
      {
        kind: 'Deployment',
        namespace: 'default',
        name: 'web',
        images: ['r.test/init:1', 'r.test/web:2'],
        nodeSelector: { 'apps.openyurt.io/nodepool': 'alpha' },
        pullSecrets: ['pull'],
        source: 'w.yaml:1',
      },
    ]);
  });

  it('tells namespaces apart, and not the same workload twice', () => {
    const { workloads, problems } = read(
      [deployment(), deployment(', namespace: shop'), deployment()].join('---\n'),
    );
    expect(workloads?.map(({ namespace }) => namespace)).toEqual(['default', 'shop']);
    expect(problems).toEqual([
      {
        source: expect.any(String),
        message: 'Deployment/default/web stands twice in this file; the first one counts',
      },
    ]);
  });

  it.each([
    ['v1beta1', 'workload:\n    workloadTemplate:', '  '],
    ['v1alpha1', 'workloadTemplate:', ''],
  ])('reads a YurtAppSet of %s', (version, key, indent) => {
    const inner = `deploymentTemplate:\n  spec:\n    template:\n      spec:${pod.replaceAll('\n', '\n  ')}`
      .split('\n')
      .map((line) => `${indent}    ${line}`)
      .join('\n');
    const tweaks =
      version === 'v1beta1'
        ? '    workloadTweaks:\n    - pools: [beta]\n      tweaks: {containerImages: [{name: a, targetImage: "r.test/web:beta"}]}\n'
        : '';
    const { workloads, problems } = read(
      `apiVersion: apps.openyurt.io/${version}\nkind: YurtAppSet\nmetadata: {name: web, namespace: shop}\nspec:\n  ${key}\n${inner}\n${tweaks}`,
    );
    expect(problems).toEqual([]);
    expect(workloads?.[0]?.images).toEqual([
      'r.test/init:1',
      'r.test/web:2',
      ...(version === 'v1beta1' ? ['r.test/web:beta'] : []),
    ]);
  });

  it('keeps the last good form of one that is broken, and says what is wrong where', () => {
    const good = readDocuments('w.yaml', deployment(), undefined);
    const bad = readDocuments('w.yaml', deployment().replace('r.test/init:1', '5'), good);
    expect(bad.problems).toEqual([
      {
        source: 'w.yaml:9',
        message: expect.stringMatching(/^Deployment default\/web: .*image: .*last good form stays in force/),
      },
    ]);
    expect(assemble(new Map([['w.yaml', bad]])).workloads).toHaveLength(1);
  });
});
