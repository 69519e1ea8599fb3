import { expect, it } from 'vitest';
import { LOADED_AT, pickRecord, pinsOf, quorumOf } from '../../../../edge/transfer/tags.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { prefetchMessage } from '../../../../shared/wire/messages/prefetch.ts';

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));

function job(id: string, images: readonly object[], more: object = {}) {
  return prefetchMessage.parse({ epoch: 1, id, generation: 1, images, ...more });
}

it('what jobs in force name by tag and digest is the hub’s word, and nothing else of them', () => {
  const jobs = [
    job('one', [
      { image: 'reg.example/lab/app:v1', digest: A },
      { image: `reg.example/lab/app:v2@${B}` },
      { image: 'reg.example/lab/app:v3' },
      { image: `reg.example/lab/app@${B}` },
      { image: 'NO NAME', digest: A },
    ]),
    job('other nodes', [{ image: 'reg.example/lab/tool', digest: B }], { nodes: ['n9'] }),
    job('on hold', [{ image: 'reg.example/lab/late:v1', digest: B }], { suspend: true }),
  ];
  const app = { registry: 'reg.example', repository: 'lab/app' };
  expect(pinsOf(jobs)).toEqual([
    { ...app, tag: 'v1', digest: A },
    { ...app, tag: 'v2', digest: B },
    { ...app, repository: 'lab/tool', tag: 'latest', digest: B },
  ]);
});

it('one member is not enough where there is a hub and a certificate, unless somebody says so', () => {
  expect(quorumOf(undefined, { hub: true, identity: true })).toBe(2);
  expect(quorumOf(undefined, { hub: false, identity: true })).toBe(1);
  expect(quorumOf(undefined, { hub: true, identity: false })).toBe(1);
  expect(quorumOf(1, { hub: true, identity: true })).toBe(1);
  expect(quorumOf(3, { hub: false, identity: false })).toBe(3);
});

it('what was loaded by hand comes after all that registries have said, this node’s own before others’', () => {
  const [C, D] = ['c', 'd'].map((text) => digestOf(Buffer.from(text)));
  const tag = { registry: 'reg.example', repository: 'lab/app', tag: 'v1' };
  const record = (digest: typeof A, originAt: number) => ({ ...tag, digest, originAt });
  const others = [
    { node: 'n2', record: record(B, 5_000) },
    { node: 'n2', record: record(D ?? A, LOADED_AT) },
  ];
  const known = {
    pins: [],
    own: [record(C ?? A, LOADED_AT), record(A, 4_000)],
    others,
    quorum: 1,
    now: 9_000,
  };
  expect(pickRecord(known)).toEqual([
    { digest: A, by: 'own', originAt: 4_000 },
    { digest: B, by: 'members', originAt: 5_000 },
    { digest: C, by: 'own', originAt: undefined },
    { digest: D, by: 'members', originAt: undefined },
  ]);
});
