import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assemble, type FileState, readDocuments } from '../../../../cloud/documents/assemble.ts';

const node = (name: string, pool = 'p'): string =>
  `apiVersion: v1\nkind: Node\nmetadata:\n  name: ${name}\n  labels: {apps.openyurt.io/nodepool: ${pool}}\n`;
const state = (...files: [string, string][]) =>
  assemble(new Map(files.map(([file, text]) => [file, readDocuments(file, text, undefined)])));

describe('readDocuments and assemble', () => {
  it('reads every kind, several documents a file', () => {
    const text = [
      node('a'),
      'apiVersion: apps.openyurt.io/v1beta2\nkind: NodePool\nmetadata: {name: hangzhou}\n',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tidepool-tuning}\ndata: {wan: "[]"}\n',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: something-else}\n',
      [
        'apiVersion: tidepool.dev/v1alpha1',
        'kind: ImagePrefetch',
        'metadata: {name: web}',
        'spec:',
        '  images: [busybox, {image: "r.test/a:1", platforms: [linux/arm64]}]',
        '  selector: {nodePools: [hangzhou], matchLabels: {disk: ssd}, matchExpressions: [{key: x, operator: Exists}]}',
        '  pullPolicy: {timeoutSeconds: 30}',
      ].join('\n'),
    ].join('\n---\n');
    const all = state(['a.yaml', text]);
    expect(all.problems).toEqual([]);
    expect(all.nodes).toEqual([
      { name: 'a', labels: { 'apps.openyurt.io/nodepool': 'p' }, source: 'a.yaml:1' },
    ]);
    expect(all.pools.map(({ name }) => name)).toEqual(['hangzhou']);
    expect(all.tuning?.data).toEqual({ wan: '[]' });
    expect(all.prefetches).toEqual([
      {
        id: 'web',
        images: [{ image: 'busybox' }, { image: 'r.test/a:1', platforms: ['linux/arm64'] }],
        selector: {
          nodePools: ['hangzhou'],
          match: [
            { key: 'disk', operator: 'In', value: 'ssd' },
            { key: 'x', operator: 'Exists' },
          ],
        },
        suspend: false,
        timeoutMs: 30_000,
        retries: 3,
        source: expect.stringMatching(/^a.yaml:\d+$/),
      },
    ]);
  });

  it('takes addresses of nodes from the annotation, else the InternalIP with the usual port', () => {
    const list = (addresses: string, annotations = '{}'): string =>
      `apiVersion: v1\nkind: Node\nmetadata: {name: a, annotations: ${annotations}}\nstatus: {addresses: ${addresses}}\n`;
    const addressOf = (text: string) => state(['a.yaml', text]).nodes[0]?.address;
    expect(addressOf(list('[{type: InternalIP, address: 10.0.0.7}]'))).toBe('10.0.0.7:6181');
    expect(addressOf(list('[{type: InternalIP, address: "fd00::7"}]'))).toBe('[fd00::7]:6181');
    expect(addressOf(list('[]', '{tidepool.dev/address: "10.0.0.8:7000"}'))).toBe('10.0.0.8:7000');
    expect(addressOf(list('[{type: Hostname, address: a}]'))).toBeUndefined();
  });

  it('reads what kubectl get -o yaml writes', () => {
    const items = ['a', 'b']
      .map((name) => `- apiVersion: v1\n  kind: Node\n  metadata: {name: ${name}}\n`)
      .join('');
    const all = state([
      'n.yaml',
      `apiVersion: v1\nkind: List\nitems:\n${items}- apiVersion: v1\n  kind: Node\n  metadata: {name: "Bad Name"}\n`,
    ]);
    expect(all.nodes.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(all.problems[0]?.source).toBe('n.yaml:12');
  });

  it('tells file, line and what was meant', () => {
    const messages = (text: string) =>
      state(['x.yaml', text]).problems.map(({ source, message }) => `${source} ${message}`);
    expect(messages(`${node('ok')}---\napiVersion: v1\nkind: Nod\nmetadata: {name: a}\n`)).toEqual([
      'x.yaml:8 Nod a: unknown kind "Nod"; did you mean Node?',
    ]);
    expect(
      messages(
        'apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: j}\nspec:\n  imges: [a]\n  images: [a]\n',
      ),
    ).toEqual(['x.yaml:5 ImagePrefetch j: spec: unknown key "imges"; did you mean "images"?']);
    expect(
      messages(
        'apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: j}\nspec:\n  images:\n  - r.test/UPPER\n',
      )[0],
    ).toMatch(/^x.yaml:6 ImagePrefetch j: spec.images\[0\].image: not an image reference/);
    expect(messages('apiVersion: apps/v1\nkind: NodePool\nmetadata: {name: j}\n')[0]).toMatch(
      /^x.yaml:1 NodePool j: apiVersion: expected apps.openyurt.io/,
    );
  });

  it('a document twice is a problem, and the first counts', () => {
    const all = state(
      ['a.yaml', node('n', 'first')],
      ['b.yaml', `${node('n', 'second')}---\n${node('m')}---\n${node('m', 'q')}`],
    );
    expect(all.nodes.map(({ name, labels }) => [name, labels['apps.openyurt.io/nodepool']])).toEqual([
      ['n', 'first'],
      ['m', 'p'],
    ]);
    expect(all.problems.map(({ message }) => message)).toEqual([
      'Node/m stands twice in this file; the first one counts',
      'Node/n stands in a.yaml already; that one counts',
    ]);
  });

  it('a bad document keeps its last good form, the others follow', () => {
    const first = readDocuments('a.yaml', `${node('a', 'p1')}---\n${node('b', 'p1')}`, undefined);
    const second = readDocuments('a.yaml', `${node('a', '[oops]')}---\n${node('b', 'p2')}`, first);
    const pools = assemble(new Map([['a.yaml', second]])).nodes.map(
      ({ labels }) => labels['apps.openyurt.io/nodepool'],
    );
    expect(pools).toEqual(['p1', 'p2']);
    expect(second.problems[0]?.message).toMatch(/^Node a: .*last good form stays in force/);
    // Mended by taking it out: gone.
    const third = readDocuments('a.yaml', node('b', 'p3'), second);
    expect([...third.documents.keys()]).toEqual(['Node/b']);
  });

  it('a file that cannot be parsed keeps everything it held', () => {
    const first = readDocuments('a.yaml', `${node('a')}---\n${node('b')}`, undefined);
    const second = readDocuments('a.yaml', `kind: [Node\n---\n${node('b', 'other')}`, first);
    expect([...second.documents.keys()].sort()).toEqual(['Node/a', 'Node/b']);
    expect(second.problems.length).toBeGreaterThan(0);
  });

  it('never throws, whatever stands in a file', () => {
    let before: FileState | undefined;
    const piece = fc.constantFrom(
      'kind: Node\n',
      'apiVersion: v1\n',
      'metadata: {name: a}\n',
      '---\n',
      'items: [1]\n',
      '- x\n',
      'kind: List\n',
      '&a *a\n',
      '{',
      '"',
      'spec: 1\n',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 12 }).map((each) => each.join('')),
        ),
        (text) => {
          before = readDocuments('a.yaml', text, before);
          assemble(new Map([['a.yaml', before]]));
        },
      ),
      { seed: 42, numRuns: 500 },
    );
  });
});
