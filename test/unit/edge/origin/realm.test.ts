import { describe, expect, it } from 'vitest';
import { mayHaveAccounts } from '../../../../edge/origin/realm.ts';

describe('mayHaveAccounts', () => {
  it.each([
    ['docker.io', 'https://registry-1.docker.io', 'https://auth.docker.io/token', true],
    ['docker.io', 'https://registry-1.docker.io', 'https://auth.docker.io.evil.example/token', false],
    ['docker.io', 'https://registry-1.docker.io', 'https://auth-docker.io/token', false],
    ['ghcr.io', 'https://ghcr.io', 'https://ghcr.io/token', true],
    ['ghcr.io', 'https://ghcr.io', 'https://evil.example/token', false],
    ['registry.gitlab.com', 'https://registry.gitlab.com', 'https://gitlab.com/jwt/auth', true],
    ['registry.gitlab.com', 'https://registry.gitlab.com', 'https://com/jwt/auth', false],
    ['registry.gitlab.com', 'https://registry.gitlab.com', 'https://evil.gitlab.com/jwt/auth', false],
    ['notgitlab.com', 'https://notgitlab.com', 'https://gitlab.com/jwt/auth', false],
    [
      'registry.cn-hangzhou.aliyuncs.com',
      'https://registry.cn-hangzhou.aliyuncs.com',
      'https://dockerauth.cn-hangzhou.aliyuncs.com/auth',
      true,
    ],
    [
      'registry.cn-hangzhou.aliyuncs.com',
      'https://registry.cn-hangzhou.aliyuncs.com',
      'https://dockerauth.cn-beijing.aliyuncs.com/auth',
      false,
    ],
    // A mirror that the node's owner set for a registry may send on to that registry's own service.
    ['docker.io', 'http://10.0.0.1:5000', 'https://auth.docker.io/token', true],
    ['docker.io', 'http://10.0.0.1:5000', 'http://10.0.0.1:5001/token', true],
    ['docker.io', 'http://10.0.0.1:5000', 'http://10.0.0.2:5000/token', false],
    ['10.0.0.1:5000', 'http://10.0.0.1:5000', 'http://0.1/token', false],
  ])('%s at %s asks at %s: %s', (registry, base, realm, may) => {
    expect(mayHaveAccounts(new URL(realm), { registry, base: new URL(base), realms: [] })).toBe(may);
  });

  it('takes what the settings name, by host or by host and port', () => {
    const owner = { registry: 'r.example', base: new URL('https://r.example') };
    const realm = new URL('https://sso.corp:8443/token');
    expect(mayHaveAccounts(realm, { ...owner, realms: ['sso.corp'] })).toBe(true);
    expect(mayHaveAccounts(realm, { ...owner, realms: ['sso.corp:8443'] })).toBe(true);
    expect(mayHaveAccounts(realm, { ...owner, realms: ['sso.corp:9443'] })).toBe(false);
  });
});
