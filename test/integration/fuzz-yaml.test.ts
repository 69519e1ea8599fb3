import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hubSettingsSchema } from '../../cloud/config/settings.ts';
import { readDocuments } from '../../cloud/documents/assemble.ts';
import { TUNING_KINDS } from '../../cloud/pools/tuning-kinds.ts';
import { parseTuning } from '../../cloud/pools/tuning-parse.ts';
import { loadSettings } from '../../edge/config/load-settings.ts';
import { loadConfig } from '../../shared/config-file.ts';
import { isTidepoolError } from '../../shared/errors.ts';
import { bombard, GROWTH_BYTES, INPUTS, inputs, MANY, SLOWEST_MS } from '../support/fuzz.ts';

const AGENT = `node: n1
address: 10.0.0.7
hub: [mqtt://hub.example:6183]
registries:
  docker.io: https://registry-1.docker.io
  reg.example: {url: http://10.0.0.1:5000, skipVerify: true, realms: [auth.example]}
allowAddresses: [10.0.0.0/8]
tuning: {wan: {download: 10Mbit}, tags: {policy: pinned}}
runtime: {criSocket: none}
insecure: true
`;
const HUB = `api: 0.0.0.0:6190
data: /var/lib/tidepool-hub
documents: /etc/tidepool
insecure: true
`;
const TUNING = `- name: everyone
  operator: Exists
  key: kubernetes.io/hostname
  settings: {download: 50Mbit, prefetch: {download: 4Mbit, windows: [{days: [mon, tue], start: "01:00", end: "05:00", timezone: Asia/Shanghai}]}}
- {name: thin, key: pool, operator: In, values: [a, b], settings: {download: 10Mbit}}
`;
const DOCUMENTS = `apiVersion: tidepool.dev/v1alpha1
kind: ImagePrefetch
metadata: {name: base}
spec:
  images: [{image: docker.io/library/nginx:1.29}]
  selector: {nodePools: [shop], matchLabels: {disk: big}}
  parallelism: {pools: 2, nodesPerPool: 1}
  pullPolicy: {timeoutSeconds: 600, backoffLimit: 3}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {apps.openyurt.io/nodepool: shop}}
status: {addresses: [{type: InternalIP, address: 10.0.0.7}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning, namespace: kube-system}
data:
  wan: |-
    - {name: a, key: k, operator: Exists, settings: {download: 1Mbit}}
`;

const SURFACES = {
  agent: { sample: AGENT, read: readAgent },
  hub: { sample: HUB, read: readHub },
  tuning: { sample: TUNING, read: readTuning },
  documents: { sample: DOCUMENTS, read: readAll },
} as const;
type Surface = keyof typeof SURFACES;

function readAgent(text: string): string {
  loadSettings({}, 'agent.yaml', {
    environment: {},
    readFile: () => text,
    hostname: () => 'host',
    networkInterfaces: () => ({ eth0: [{ address: '10.0.0.7', family: 'IPv4', internal: false }] }),
  });
  return 'taken';
}

function readHub(text: string): string {
  loadConfig(hubSettingsSchema, text, 'hub.yaml');
  return 'taken';
}

function readTuning(text: string): string {
  const kinds = Object.keys(TUNING_KINDS);
  // Half of them as what the sample is.
  const kind = text.length % 2 === TUNING.length % 2 ? 'wan' : (kinds[text.length % kinds.length] ?? 'wan');
  const { problems } = parseTuning({ data: { [kind]: text }, source: 's' }, {});
  return problems.length === 0 ? 'taken' : 'refused';
}

function readAll(text: string): string {
  return readDocuments('a.yaml', text, undefined).problems.length === 0 ? 'taken' : 'refused';
}

const token = fc.oneof(
  fc.constantFrom(
    '&a ',
    '*a',
    '&a [*a,*a]',
    '<<: *a',
    '!!binary x',
    '!!js/function "x"',
    '!<tag:x> y',
    '? ',
    ': ',
    '- ',
    '|',
    '>-',
    '---\n',
    '...\n',
    '%YAML 9.9\n',
    '#',
    '"',
    "'",
    '"\\x',
    '"\\uD800"',
    '{',
    '}',
    '[',
    ']',
    ',',
    '\t',
    '\r',
    '\0',
    '\uFEFF',
    '\u2028',
    '__proto__: x\n',
    '__proto__: {insecure: true}\n',
    'constructor: {prototype: 1}\n',
    'hasOwnProperty: 1\n',
    'null',
    '~',
    '.nan',
    '.inf',
    '-0',
    '0o17',
    '0xffffffffffffffffffff',
    '1e999',
    '12345678901234567890',
    '2001-01-01',
    'yes',
    'on',
    'spec: ',
    'kind: List\nitems:\n',
    'name: ',
    'settings: ',
  ),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.integer({ min: 1, max: 3_000 }).map((depth) => '['.repeat(depth)),
  fc.integer({ min: 1, max: 3_000 }).map((depth) => '{a: '.repeat(depth)),
  fc.integer({ min: 1, max: 1_000 }).map((depth) => '- '.repeat(depth)),
  fc.integer({ min: 1, max: 20_000 }).map((length) => 'x'.repeat(length)),
  // Each level names the one before ten times: a billion from a kilobyte.
  fc.integer({ min: 2, max: 12 }).map((levels) =>
    Array.from({ length: levels }, (_, level) =>
      level === 0
        ? 'l0: &l0 [x,x]\n'
        : `l${level}: &l${level} [${Array(10)
            .fill(`*l${level - 1}`)
            .join(',')}]\n`,
    ).join(''),
  ),
);
const edit = fc.tuple(fc.nat(), fc.nat(40), token, fc.constantFrom('insert', 'replace', 'repeat', 'cut'));
const mutated = fc
  .tuple(
    fc.constantFrom<Surface>('agent', 'hub', 'tuning', 'documents'),
    fc.array(edit, { minLength: 1, maxLength: 4 }),
  )
  .map(([surface, edits]) => {
    let text: string = SURFACES[surface].sample;
    for (const [at, length, what, how] of edits) {
      const start = at % (text.length + 1);
      const end = Math.min(text.length, start + length);
      const middle = {
        insert: what + text.slice(start, end),
        replace: what,
        cut: '',
        repeat: text.slice(start, end).repeat(3),
      };
      text = text.slice(0, start) + middle[how] + text.slice(end);
    }
    return { surface, text };
  });
const rubbish = fc
  .tuple(fc.constantFrom<Surface>('agent', 'hub', 'tuning', 'documents'), fc.array(token, { maxLength: 8 }))
  .map(([surface, tokens]) => ({ surface, text: tokens.join('') }));

describe(`YAML under ${MANY} malformed texts`, () => {
  it('is taken or refused with a reason, at once, and nothing is kept of it', async () => {
    const given = inputs(
      'YAML',
      fc.oneof({ weight: 4, arbitrary: mutated }, { weight: 1, arbitrary: rubbish }),
      4_711,
    )
      // V8 makes one piece of a text when it is first read: that is no growth of the parser's.
      .map(({ surface, text }) => ({ surface, text: Buffer.from(text, 'utf16le').toString('utf16le') }));
    const outcome = await bombard(
      given,
      async ({ surface, text }) => {
        try {
          return SURFACES[surface].read(text);
        } catch (error) {
          if (isTidepoolError(error, 'INVALID_CONFIG')) return 'refused';
          throw error;
        }
      },
      ({ surface, text }) => `${surface}: ${JSON.stringify(text.slice(0, 800))}`,
    );
    console.log(JSON.stringify({ ...outcome, slowest: outcome.slowest.slice(0, 200) }));
    expect(outcome.unhandled).toEqual([]);
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
    expect(Object.hasOwn(Object.prototype, 'insecure')).toBe(false);
    expect(outcome.statuses.taken).toBeGreaterThan(INPUTS / 100);
    for (const { read, sample } of Object.values(SURFACES)) expect(read(sample)).toBe('taken');
  });
});
