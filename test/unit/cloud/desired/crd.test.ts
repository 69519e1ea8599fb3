import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { project } from '../../../../cloud/desired/documents.ts';
import { type Rules, schemaOffences } from '../../../support/structural-schema.ts';

const crd = parse(readFileSync('charts/tidepool/crds/imageprefetches.yaml', 'utf8'));
const version = crd.spec.versions[0];
const schema = version.schema.openAPIV3Schema;

const inner = (self: Readonly<Record<string, unknown>>, key: string): Readonly<Record<string, unknown>> => {
  const value = self[key];
  return typeof value === 'object' && value !== null ? { ...value } : {};
};
const rules: Rules = {
  'the name must have at most 200 characters, it becomes part of a topic': (self) =>
    String(inner(self, 'metadata').name).length <= 200,
  'a job with a schedule never ends, so completionPolicy.ttlSecondsAfterFinished has no meaning': (self) =>
    !('schedule' in self && 'ttlSecondsAfterFinished' in inner(self, 'completionPolicy')),
  'a dry run answers once; take the schedule out': (self) => !('schedule' in self && self.dryRun === true),
  'In and NotIn need value or values; Exists and DoesNotExist take none': (self) =>
    ['Exists', 'DoesNotExist'].includes(String(self.operator)) !== ('value' in self || 'values' in self),
  'a job of type Never does not finish, so it takes no ttlSecondsAfterFinished and no activeDeadlineSeconds':
    (self) =>
      self.type !== 'Never' || !('ttlSecondsAfterFinished' in self || 'activeDeadlineSeconds' in self),
};

const document = (spec: unknown, name = 'job') => ({
  apiVersion: 'tidepool.dev/v1alpha1',
  kind: 'ImagePrefetch',
  metadata: { name },
  spec,
});
const byServer = (value: unknown): boolean =>
  schemaOffences(schema, { ...document(undefined), ...Object(value) }, rules).length === 0;
const byHub = (value: unknown): boolean =>
  'projection' in project({ line: 1, errors: [], value, lineOf: () => 1 }, 'test');

const image = { image: 'registry.example:5000/shop/till:1.0' };
const digest = `sha256:${'a'.repeat(64)}`;
const good: readonly (readonly [string, unknown])[] = [
  ['one image', { images: [image] }],
  ['a digest in the reference', { images: [{ image: `busybox@${digest}` }] }],
  ['digest and platforms', { images: [{ ...image, digest, platforms: ['linux/arm64', 'linux/arm/v7'] }] }],
  [
    'all selectors',
    {
      images: [image],
      selector: {
        nodePools: ['hangzhou'],
        names: ['n1.example'],
        matchLabels: { disk: 'ssd' },
        matchExpressions: [
          { key: 'a', operator: 'In', values: ['x', 'y'] },
          { key: 'b', operator: 'Exists' },
          { key: 'c', value: 'z' },
        ],
        workloadRef: { kind: 'DaemonSet', namespace: 'shop', name: 'till' },
      },
    },
  ],
  [
    'limits',
    {
      images: [image],
      parallelism: { pools: 3, nodesPerPool: 2 },
      suspend: true,
      pullPolicy: { timeoutSeconds: 30, backoffLimit: 0 },
      failureTolerance: '10%',
      completionPolicy: { type: 'Always', ttlSecondsAfterFinished: 0, activeDeadlineSeconds: 60 },
      pullSecrets: ['registry'],
      dryRun: true,
    },
  ],
  ['a tolerance in nodes', { images: [image], failureTolerance: 0 }],
  ['a retention', { images: [image], retain: '30d' }],
  ['a retention of nothing', { images: [image], retain: '0' }],
  ['for newcomers', { images: [image], completionPolicy: { type: 'Never' } }],
  ['by the clock', { images: [image], schedule: { cron: '0 3 * * *', timeZone: 'Asia/Shanghai' } }],
  // What cron and time zone mean is told in the status: the object exists then, and can carry the words.
  ['a bad cron pattern', { images: [image], schedule: { cron: 'whenever' } }],
];
const bad: readonly (readonly [string, unknown])[] = [
  ['no images', {}],
  ['none in the list', { images: [] }],
  ['too many', { images: Array.from({ length: 101 }, () => image) }],
  ['an empty reference', { images: [{ image: '' }] }],
  ['a reference with a blank', { images: [{ image: 'a b' }] }],
  ['a short digest', { images: [{ ...image, digest: 'sha256:1' }] }],
  ['a digest of another kind', { images: [{ image: 'busybox@md5:1' }] }],
  ['no platform', { images: [{ ...image, platforms: ['arm'] }] }],
  ['an unknown field', { images: [image], selektor: {} }],
  ['files', { images: [image], files: [{ url: 'http://a/b' }] }],
  ['an empty pool list', { images: [image], selector: { nodePools: [] } }],
  ['a pool name', { images: [image], selector: { nodePools: ['No Pool'] } }],
  ['a node name', { images: [image], selector: { names: ['n1/'] } }],
  ['a label value', { images: [image], selector: { matchLabels: { a: 'x'.repeat(64) } } }],
  [
    'an operator',
    { images: [image], selector: { matchExpressions: [{ key: 'a', operator: 'Gt', value: '1' }] } },
  ],
  ['In without values', { images: [image], selector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }],
  [
    'Exists with one',
    { images: [image], selector: { matchExpressions: [{ key: 'a', operator: 'Exists', value: 'b' }] } },
  ],
  [
    'another workload',
    { images: [image], selector: { workloadRef: { kind: 'Job', namespace: 'a', name: 'b' } } },
  ],
  [
    'a workload without namespace',
    { images: [image], selector: { workloadRef: { kind: 'DaemonSet', name: 'b' } } },
  ],
  ['no pools at a time', { images: [image], parallelism: { pools: 0 } }],
  ['half a node', { images: [image], parallelism: { nodesPerPool: 1.5 } }],
  ['no time', { images: [image], pullPolicy: { timeoutSeconds: 0 } }],
  ['too much time', { images: [image], pullPolicy: { timeoutSeconds: 86_401 } }],
  ['negative tolerance', { images: [image], failureTolerance: -1 }],
  ['over 100 percent', { images: [image], failureTolerance: '101%' }],
  ['tolerance without a sign', { images: [image], failureTolerance: '10' }],
  ['another type of completion', { images: [image], completionPolicy: { type: 'Sometimes' } }],
  [
    'Never with a time to live',
    { images: [image], completionPolicy: { type: 'Never', ttlSecondsAfterFinished: 1 } },
  ],
  [
    'a schedule with a time to live',
    {
      images: [image],
      schedule: { cron: '0 3 * * *' },
      completionPolicy: { ttlSecondsAfterFinished: 1 },
    },
  ],
  ['a schedule of a dry run', { images: [image], schedule: { cron: '0 3 * * *' }, dryRun: true }],
  ['a schedule without pattern', { images: [image], schedule: { timeZone: 'UTC' } }],
  ['a retention in words', { images: [image], retain: '30 days' }],
  ['a retention without unit', { images: [image], retain: '30' }],
  ['a retention of centuries', { images: [image], retain: '40000d' }],
  ['too many secrets', { images: [image], pullSecrets: Array.from({ length: 11 }, (_, n) => `s${n}`) }],
  ['a secret name', { images: [image], pullSecrets: ['No Secret'] }],
];

describe('the CRD and the hub', () => {
  it.each(good)('both take %s', (_, spec) => {
    expect([byServer(document(spec)), byHub(document(spec))]).toEqual([true, true]);
  });

  it.each(bad)('both refuse %s', (_, spec) => {
    expect([byServer(document(spec)), byHub(document(spec))]).toEqual([false, false]);
  });

  it('both refuse a name that is too long for a topic', () => {
    const long = document({ images: [image] }, 'a'.repeat(201));
    expect([byServer(long), byHub(long)]).toEqual([false, false]);
  });

  it('says in kubectl what people ask for first', () => {
    expect(
      version.additionalPrinterColumns
        .filter(({ priority = 0 }) => priority === 0)
        .map(({ name }: { name: string }) => name),
    ).toEqual(['Desired', 'Succeeded', 'Failed', 'Offline', 'Waiting', 'WAN Bytes', 'Age']);
    expect(version.subresources).toEqual({ status: {} });
    expect(crd.spec).toMatchObject({ scope: 'Cluster', names: { shortNames: ['ipf'] } });
  });
});
