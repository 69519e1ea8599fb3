import { describe, expect, it } from 'vitest';
import { parseRoute, resolveSubject } from '../../../../edge/mirror/route.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';

const HEX = 'a'.repeat(64);
const DIGEST = `sha256:${HEX}`;

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return isTidepoolError(error) ? error.code : 'not a TidepoolError';
  }
  return 'nothing thrown';
}

describe('parseRoute', () => {
  const table: [string, Record<string, unknown>][] = [
    ['/v2/', { kind: 'base' }],
    ['/v2', { kind: 'base' }],
    ['/v2/?ns=docker.io', { kind: 'base' }],
    [
      '/v2/library/busybox/manifests/1.36?ns=docker.io',
      {
        kind: 'manifest',
        style: 'ns',
        registry: 'docker.io',
        repository: 'library/busybox',
        reference: '1.36',
      },
    ],
    [
      '/v2/team/app/manifests/latest?ns=registry.example%3A5000',
      {
        kind: 'manifest',
        style: 'ns',
        registry: 'registry.example:5000',
        repository: 'team/app',
        reference: 'latest',
      },
    ],
    [
      `/v2/registry.example:5000/team/app/blobs/${DIGEST}`,
      {
        kind: 'blob',
        style: 'path',
        registry: 'registry.example:5000',
        repository: 'team/app',
        digest: DIGEST,
      },
    ],
    [
      `/v2/quay.io/app/manifests/${DIGEST}`,
      { kind: 'manifest', style: 'path', registry: 'quay.io', repository: 'app', reference: DIGEST },
    ],
    [
      '/v2/localhost/app/manifests/x',
      { kind: 'manifest', style: 'path', registry: 'localhost', repository: 'app', reference: 'x' },
    ],
    [
      '/v2/%5B::1%5D:5000/app/manifests/x',
      { kind: 'manifest', style: 'path', registry: '[::1]:5000', repository: 'app', reference: 'x' },
    ],
    [
      `/v2/library/busybox/blobs/sha256%3A${HEX}`,
      {
        kind: 'blob',
        style: 'default',
        registry: 'docker.io',
        repository: 'library/busybox',
        digest: DIGEST,
      },
    ],
    // docker sends library/ itself; what it does not send is not added
    [
      '/v2/busybox/manifests/latest',
      {
        kind: 'manifest',
        style: 'default',
        registry: 'docker.io',
        repository: 'busybox',
        reference: 'latest',
      },
    ],
    // a lone element is a repository, whatever it looks like
    [
      '/v2/my.app/manifests/latest',
      {
        kind: 'manifest',
        style: 'default',
        registry: 'docker.io',
        repository: 'my.app',
        reference: 'latest',
      },
    ],
    // with ns the path is a repository alone, also where its first element looks like a host
    [
      '/v2/my.org/app/manifests/latest?ns=quay.io',
      { kind: 'manifest', style: 'ns', registry: 'quay.io', repository: 'my.org/app', reference: 'latest' },
    ],
    [
      '/v2/app/manifests/latest?ns=',
      { kind: 'manifest', style: 'default', registry: 'docker.io', repository: 'app', reference: 'latest' },
    ],
    [
      '/v2/index.docker.io/library/busybox/manifests/latest',
      {
        kind: 'manifest',
        style: 'path',
        registry: 'docker.io',
        repository: 'library/busybox',
        reference: 'latest',
      },
    ],
    // as registries.conf has to write a port
    [
      `/v2/registry.example_5000/team/app/blobs/${DIGEST}`,
      {
        kind: 'blob',
        style: 'path',
        registry: 'registry.example:5000',
        repository: 'team/app',
        digest: DIGEST,
      },
    ],
    [
      '/v2/localhost_5000/app/manifests/x',
      { kind: 'manifest', style: 'path', registry: 'localhost:5000', repository: 'app', reference: 'x' },
    ],
    [
      '/v2/team_5000/app/manifests/x',
      {
        kind: 'manifest',
        style: 'default',
        registry: 'docker.io',
        repository: 'team_5000/app',
        reference: 'x',
      },
    ],
    // names of routes may be names of repositories
    [
      '/v2/a/manifests/b/manifests/c',
      {
        kind: 'manifest',
        style: 'default',
        registry: 'docker.io',
        repository: 'a/manifests/b',
        reference: 'c',
      },
    ],
    [
      '/v2/app/tags/list?n=2&ns=quay.io&last=a%20b',
      {
        kind: 'tags',
        style: 'ns',
        registry: 'quay.io',
        repository: 'app',
        path: 'tags/list',
        query: 'n=2&last=a%20b',
      },
    ],
    [
      `/v2/quay.io/app/referrers/${DIGEST}?artifactType=a%2Fb`,
      {
        kind: 'referrers',
        style: 'path',
        registry: 'quay.io',
        repository: 'app',
        path: `referrers/${DIGEST}`,
        query: 'artifactType=a%2Fb',
      },
    ],
    ['/', { kind: 'unknown' }],
    ['/v1/app', { kind: 'unknown' }],
    ['/v2/_catalog', { kind: 'unknown' }],
    ['/v2/manifests/latest', { kind: 'unknown' }],
    ['/v2/app/tags/other', { kind: 'unknown' }],
    ['/v2/app/blobs/uploads/', { kind: 'unknown' }],
    ['/v2/app/blobs/uploads', { kind: 'unknown' }],
  ];
  it.each(table)('%s', (target, route) => {
    expect(parseRoute(target, 'docker.io')).toEqual(route);
  });

  const bad: [string, string][] = [
    ['/v2/App/manifests/latest', 'INVALID_REFERENCE'],
    ['/v2/a//b/manifests/latest', 'INVALID_REFERENCE'],
    ['/v2/../etc/manifests/latest', 'INVALID_REFERENCE'],
    ['/v2/a/%2e%2e/b/manifests/latest', 'INVALID_REFERENCE'],
    [`/v2/${'a'.repeat(256)}/manifests/latest`, 'INVALID_REFERENCE'],
    ['/v2/app/manifests/sha256:totallywrong', 'INVALID_DIGEST'],
    [`/v2/app/manifests/sha512:${HEX}${HEX}`, 'INVALID_DIGEST'],
    ['/v2/app/blobs/latest', 'INVALID_DIGEST'],
    [`/v2/app/blobs/sha256:${'A'.repeat(64)}`, 'INVALID_DIGEST'],
    ['/v2/app/referrers/latest', 'INVALID_DIGEST'],
    ['/v2/app/manifests/.INVALID_MANIFEST_NAME', 'MANIFEST_UNKNOWN'],
    [`/v2/app/manifests/${'t'.repeat(129)}`, 'MANIFEST_UNKNOWN'],
    ['/v2/app/manifests/latest?ns=not%20a%20host', 'INVALID_REFERENCE'],
    ['/v2/app/manifests/latest?ns=http://evil/', 'INVALID_REFERENCE'],
    ['/v2/app/manifests/latest?ns=a.example&ns=b.example', 'INVALID_ARGUMENT'],
    ['/v2/-bad.example:x/app/manifests/latest', 'INVALID_REFERENCE'],
    ['/v2/app/manifests/%zz', 'INVALID_ARGUMENT'],
    [`/v2/app/manifests/latest?x=${'y'.repeat(9000)}`, 'INVALID_ARGUMENT'],
  ];
  it.each(bad.map(([target, code]) => ({ title: target.slice(0, 60), target, code })))(
    '$title is refused',
    ({ target, code }) => {
      expect(codeOf(() => parseRoute(target, 'docker.io'))).toBe(code);
    },
  );
});

describe('resolveSubject', () => {
  it('takes the default registry as it was configured', () => {
    expect(resolveSubject(undefined, ['team', 'app'], 'mirror.example:443')).toEqual({
      style: 'default',
      registry: 'mirror.example:443',
      repository: 'team/app',
    });
  });
});
