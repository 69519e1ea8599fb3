import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONTAINERD_CONFIG, judgeDaemonConfig } from './daemon-config.ts';
import { namesHost } from './hosts-toml.ts';

export interface AdviceInit {
  /** Of the registry that self-tests ask for. */
  readonly registry: string;
  /** Base URL of the mirror. */
  readonly mirror: string;
  readonly certsDir: string;
  /** Where the host's files are mounted; `/` on the host itself. */
  readonly hostRoot: string;
}

export interface Advice {
  /** `not-configured`: containerd's hosts directory has nothing of ours. */
  readonly mirror: 'no' | 'not-configured';
  readonly fix: string;
}

/** Why a containerd that asks others than the mirror does so, as its files tell, and what to do. Only reads. */
export function adviseContainerd(init: AdviceInit, runtime: string | null): Advice {
  const { certsDir, hostRoot, mirror, registry } = init;
  const at = (path: string): string => join(hostRoot, path);
  const pointed = [registry, '_default'].some((directory) => {
    const text = readIf(at(join(certsDir, directory, 'hosts.toml')));
    return text !== undefined && namesHost(text, mirror);
  });
  // From inside a container that does not mount the directory nothing can be said of it.
  if (!pointed && existsSync(at('/etc/containerd'))) {
    return {
      mirror: 'not-configured',
      fix: `nothing in ${certsDir} names ${mirror}: run tidepool-agent containerd configure --default`,
    };
  }
  const major = /\bv?(\d+)\.\d+/.exec(runtime ?? '')?.[1];
  const { fix } = judgeDaemonConfig({
    text: readIf(at(CONTAINERD_CONFIG)),
    path: CONTAINERD_CONFIG,
    certsDir,
    major: major === undefined ? undefined : Number(major),
  });
  return {
    mirror: 'no',
    fix:
      fix ??
      `${CONTAINERD_CONFIG} names ${certsDir}, and yet containerd does not read it: it was started before that was written, or with another file (see containerd config dump); restart it when it suits the node`,
  };
}

function readIf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Absent, or not for this user: either way nothing can be told from it.
    return undefined;
  }
}
