import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestOf } from '../../../shared/ids.ts';
import {
  formatImageRef,
  type ImageRef,
  isRegistryHost,
  isRepository,
  parseImageRef,
  parseReference,
  referenceOf,
} from '../../../shared/image-ref.ts';

const DIGEST = digestOf(Buffer.from('image'));

const component = fc.stringMatching(/^[a-z0-9]{1,5}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,5}){0,2}$/);
const imageRef: fc.Arbitrary<ImageRef> = fc
  .record({
    registry: fc.constantFrom(
      'docker.io',
      'ghcr.io',
      'localhost',
      'localhost:5000',
      '10.0.0.1:80',
      '[::1]:5000',
    ),
    path: fc.array(component, { minLength: 2, maxLength: 4 }),
    tag: fc.option(fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}$/), { nil: undefined }),
    pinned: fc.boolean(),
  })
  .map(({ registry, path, tag, pinned }) => ({
    registry,
    repository: path.join('/'),
    ...(tag === undefined && !pinned ? { tag: 'latest' } : {}),
    ...(tag === undefined ? {} : { tag }),
    ...(pinned ? { digest: DIGEST } : {}),
  }));

describe('parseImageRef', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['index.docker.io/busybox', 'docker.io/library/busybox:latest'],
    ['grafana/loki', 'docker.io/grafana/loki:latest'],
    ['ghcr.io/a/b/c:v1', 'ghcr.io/a/b/c:v1'],
    ['ghcr.io/a', 'ghcr.io/a:latest'],
    ['localhost/a', 'localhost/a:latest'],
    ['localhost:5000/a', 'localhost:5000/a:latest'],
    ['registry.example:5000/a:v1', 'registry.example:5000/a:v1'],
    ['[fd00::7]:5000/a:v1', '[fd00::7]:5000/a:v1'],
    // Upper case is no repository, so it can only be a host.
    ['HUB/a', 'HUB/a:latest'],
    // A port needs a path after it; this is an image named localhost.
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    [`a@${DIGEST}`, `docker.io/library/a@${DIGEST}`],
    [`ghcr.io/a/b:v1@${DIGEST}`, `ghcr.io/a/b:v1@${DIGEST}`],
  ])('reads %s as %s', (text, whole) => {
    expect(formatImageRef(parseImageRef(text))).toBe(whole);
  });

  it.each([
    '',
    ' ',
    '/',
    'a/',
    '/a',
    'a//b',
    'docker.io/',
    'a:',
    'a:b:c',
    'a:-v1',
    `a:${'v'.repeat(129)}`,
    'a@',
    'a@sha256:abc',
    `a@${DIGEST}0`,
    `a@${DIGEST}@${DIGEST}`,
    `@${DIGEST}`,
    'Busybox',
    'ghcr.io/A',
    'a..b',
    'a___b',
    '-a',
    'a-',
    'a b',
    'a\nb',
    '../etc/passwd',
    'ghcr.io/../b',
    'https://ghcr.io/a',
    'ghcr.io:port/a',
    'ghcr.io:99999/a',
    '-x.io/a',
    '[::1/a',
    '[:::::]/a',
    'user@ghcr.io/a',
    'a?b',
    'a#b',
    'a%2fb',
    `a/${'b'.repeat(256)}`,
  ])('refuses %j', (text) => {
    expect(() => parseImageRef(text)).toThrow(expect.objectContaining({ code: 'INVALID_REFERENCE' }));
  });

  it('and formatImageRef undo each other', () => {
    fc.assert(
      fc.property(imageRef, (image) => {
        expect(parseImageRef(formatImageRef(image))).toEqual(image);
      }),
      { seed: 42, numRuns: 500 },
    );
  });

  it('takes or refuses any text, and what it takes is stable', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aZ0.:/@-_[]% ') }), (text) => {
        let image: ImageRef;
        try {
          image = parseImageRef(text);
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_REFERENCE' });
          return;
        }
        expect(isRegistryHost(image.registry) && isRepository(image.repository)).toBe(true);
        expect(parseImageRef(formatImageRef(image))).toEqual(image);
      }),
      { seed: 42, numRuns: 2000 },
    );
  });
});

describe('references', () => {
  it('are a tag or a digest', () => {
    expect(parseReference('v1')).toEqual({ kind: 'tag', tag: 'v1' });
    expect(parseReference(DIGEST)).toEqual({ kind: 'digest', digest: DIGEST });
    expect(() => parseReference('sha256:abc')).toThrow(expect.objectContaining({ code: 'INVALID_DIGEST' }));
    for (const bad of ['', '.a', '-a', 'a/b', '../a']) {
      expect(() => parseReference(bad)).toThrow(expect.objectContaining({ code: 'INVALID_REFERENCE' }));
    }
  });

  it('of a pull are the digest where one is pinned, else the tag', () => {
    expect(referenceOf(parseImageRef(`a:v1@${DIGEST}`))).toEqual({ kind: 'digest', digest: DIGEST });
    expect(referenceOf(parseImageRef('a:v1'))).toEqual({ kind: 'tag', tag: 'v1' });
    expect(referenceOf({ registry: 'docker.io', repository: 'library/a' })).toEqual({
      kind: 'tag',
      tag: 'latest',
    });
  });
});
