import { describe, expect, it } from 'vitest';
import { mayHoldManifest, nameOf, ownersOf } from '../../../../../edge/transfer/access/runtime-word.ts';

const given = (sources: Record<string, string[]>) => new Map(Object.entries(sources));

describe('whose bytes a blob of the runtime is', () => {
  it.each([
    ['brought by hand: whose the names say', ['a.example', 'b.example'], {}, ['a.example', 'b.example']],
    ['fetched from the one registry that names it', ['a.example'], { 'a.example': ['x'] }, ['a.example']],
    [
      'fetched from a registry whose port is not noted',
      ['a.example:5000'],
      { 'a.example': ['x'] },
      ['a.example:5000'],
    ],
    ['of two registries of one host', ['a.example:1', 'a.example:2'], { 'a.example': ['x'] }, []],
    ['met in two registries', ['a.example'], { 'a.example': ['x'], 'b.example': ['y'] }, []],
    ['of one registry, and named by another since', ['b.example'], { 'a.example': ['x'] }, []],
    [
      'brought by hand, and named by a stranger that was pulled',
      ['a.example', 'b.example'],
      { 'b.example': ['y'] },
      [],
    ],
  ] as const)('%s', (_, names, sources, owners) => {
    expect([...ownersOf(new Set(names), new Map(Object.entries(sources)))]).toEqual(owners);
  });
});

describe("a manifest that a repository's index names", () => {
  const name = { registry: 'a.example', repository: 'team/app' };
  it.each([
    ['is its own when it was brought by hand', {}, true],
    ['is its own when it came from there alone', { 'a.example': ['team/app'] }, true],
    ['may be of another repository of the registry', { 'a.example': ['secret/app', 'team/app'] }, false],
    ['may be of another registry', { 'a.example': ['team/app'], 'b.example': ['x'] }, false],
  ])('%s', (_, sources, may) => {
    expect(mayHoldManifest(name, given(sources))).toBe(may);
  });
});

describe("an image's name", () => {
  it.each([
    ['docker.io/library/x:1', { registry: 'docker.io', repository: 'library/x', tag: '1' }],
    ['localhost:5000/x:1', { registry: 'localhost:5000', repository: 'x', tag: '1' }],
    [`a.example/x@sha256:${'0'.repeat(64)}`, { registry: 'a.example', repository: 'x', tag: undefined }],
    [`sha256:${'0'.repeat(64)}`, undefined],
    ['import-2026-11-21', undefined],
    ['library/x:1', undefined],
    ['a.example/Upper:1', undefined],
  ])('%s', (text, name) => {
    expect(nameOf(text)).toEqual(name);
  });
});
