import { TidepoolError } from '../errors.ts';
import { quote } from '../ids.ts';

/** OCI image-spec 1.1, "Image Index": what a manifest is for. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** `linux/arm64/v8`. @throws TidepoolError INVALID_ARGUMENT */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...more] = text.split('/');
  if (!os || !architecture || variant === '' || more.length > 0 || !/^[a-z0-9/_.-]+$/.test(text)) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a platform: ${quote(text)}; write it like linux/amd64 or linux/arm/v7`,
    );
  }
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;
}

/**
 * The entry of an index that `wanted` runs best, as containerd chooses: its own variant, else an older one of the same
 * architecture, the newest first; of equals the first. Entries for `unknown` (attestations) never; one without a platform
 * only where no entry says what it is for.
 */
export function selectPlatform<T extends { readonly platform: Platform | undefined }>(
  entries: readonly T[],
  wanted: Platform,
): T | undefined {
  let best: T | undefined;
  let bestRank = -1;
  for (const entry of entries) {
    const rank = entry.platform === undefined ? -1 : rankOf(entry.platform, wanted);
    if (rank > bestRank) {
      best = entry;
      bestRank = rank;
    }
  }
  if (best !== undefined || entries.some(({ platform }) => platform !== undefined && !isUnknown(platform))) {
    return best;
  }
  return entries.find(({ platform }) => platform === undefined);
}

function isUnknown({ os, architecture }: Platform): boolean {
  return os === 'unknown' || architecture === 'unknown';
}

/** -1: does not run; else higher is better. */
function rankOf(offered: Platform, wanted: Platform): number {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return -1;
  const most = levelOf(wanted);
  const level = levelOf(offered);
  if (most === undefined || level === undefined) {
    return (offered.variant ?? '') === (wanted.variant ?? '') ? 0 : -1;
  }
  return level <= most ? level : -1;
}

/** `v7` to 7, with what an absent variant stands for; undefined for a variant that is no version. */
function levelOf({ architecture, variant }: Platform): number | undefined {
  const text = variant ?? DEFAULT_VARIANTS[architecture] ?? 'v0';
  const match = /^v(\d{1,3})(?:\.(\d{1,3}))?$/.exec(text);
  return match === null ? undefined : Number(match[1]) * 1000 + Number(match[2] ?? 0);
}

const DEFAULT_VARIANTS: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8', arm: 'v7' };
