import type { Platform } from '../../shared/registry/platform.ts';

/** Node's names for processors to those of Go, which images use. */
const ARCHITECTURES: Readonly<Record<string, Omit<Platform, 'os'>>> = {
  x64: { architecture: 'amd64' },
  arm64: { architecture: 'arm64', variant: 'v8' },
  arm: { architecture: 'arm', variant: 'v7' },
  ia32: { architecture: '386' },
  ppc64: { architecture: 'ppc64le' },
  loong64: { architecture: 'loong64' },
};

/** What this node runs: containers are Linux ones. `armVersion` is that of 32-bit ARM, as Node was built for it. */
export function hostPlatform(arch: string, armVersion?: string): Platform {
  const known = ARCHITECTURES[arch] ?? { architecture: arch };
  const variant = arch === 'arm' && armVersion !== undefined ? { variant: `v${armVersion}` } : {};
  return { os: 'linux', ...known, ...variant };
}

export {
  formatPlatform,
  type Platform,
  parsePlatform,
  selectPlatform,
} from '../../shared/registry/platform.ts';
