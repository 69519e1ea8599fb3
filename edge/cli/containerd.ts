import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { isRegistryHost } from '../../shared/image-ref.ts';
import { formatHostPort } from '../config/addresses.ts';
import { parseRegistry } from '../config/flags.ts';
import { DEFAULT_MIRROR } from '../config/load-settings.ts';
import { type FileChange, HostsFiles, type RegistryTarget } from '../runtime/containerd/hosts-files.ts';
import { table } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';

export const DEFAULT_CERTS_DIR = '/etc/containerd/certs.d';
const CONTAINERD_CONFIG = '/etc/containerd/config.toml';

export interface ConfigureFlags {
  readonly registry?: readonly string[];
  readonly default?: boolean;
  readonly certsDir: string;
  readonly mirror?: string;
  /** False with `--no-fallback`. */
  readonly fallback: boolean;
  readonly json?: boolean;
}

export interface RestoreFlags {
  readonly certsDir: string;
  readonly json?: boolean;
}

/** Points containerd at the mirror, for named registries or for all. */
export function configureCommand(io: CliIo, flags: ConfigureFlags): ExitCode {
  const { registry = [] } = flags;
  if (registry.length > 0 === (flags.default === true)) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      'say which registries: --registry HOST for each, or --default for all that have no directory of their own',
    );
  }
  const targets: RegistryTarget[] =
    flags.default === true ? [{ registry: undefined }] : registry.map(parseTarget);
  const changes = new HostsFiles(flags.certsDir).configure(targets, {
    mirror: parseMirror(flags.mirror ?? `http://${formatHostPort(DEFAULT_MIRROR)}`),
    fallback: flags.fallback,
  });
  show(io, changes, flags.json === true);
  if (!setsConfigPath(io, flags.certsDir)) io.stderr.write(configPathNote(flags.certsDir));
  return EXIT.ok;
}

/** Puts back what was there before. */
export function restoreCommand(io: CliIo, flags: RestoreFlags): ExitCode {
  const changes = new HostsFiles(flags.certsDir).restore();
  if (changes.length === 0 && flags.json !== true) {
    io.stdout.write(`nothing of ours is in ${flags.certsDir}\n`);
    return EXIT.ok;
  }
  show(io, changes, flags.json === true);
  return EXIT.ok;
}

function show(io: CliIo, changes: readonly FileChange[], json: boolean): void {
  if (json) io.stdout.write(`${JSON.stringify(changes, null, 2)}\n`);
  else io.stdout.write(table(changes.map(({ path, change, note = '' }) => [change, path, note])));
}

/** `HOST`, or `HOST=URL` where the registry is not at the URL that its name says. */
function parseTarget(text: string): RegistryTarget {
  if (text.includes('=')) {
    const [registry, { url }] = parseRegistry(text);
    return { registry, server: url };
  }
  if (!isRegistryHost(text)) {
    throw new TidepoolError('INVALID_CONFIG', `--registry: not a registry's host: ${quote(text)}`);
  }
  return { registry: text };
}

function parseMirror(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '') {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `--mirror: not a base URL: ${quote(text)}; write it like http://127.0.0.1:6180`,
    );
  }
  return text.replace(/\/+$/, '');
}

/** What a person has to add to containerd's own settings; restarting a node's runtime is theirs to decide. */
function configPathNote(certsDir: string): string {
  const path = `    config_path = ${JSON.stringify(certsDir)}`;
  const unless = certsDir === DEFAULT_CERTS_DIR ? ' (2.x does so by itself)' : '';
  return [
    `note: pods are pulled by way of ${certsDir} only where ${CONTAINERD_CONFIG} says so${unless}; no config_path with it was found there`,
    '  containerd 1.x, version = 2:',
    '  [plugins."io.containerd.grpc.v1.cri".registry]',
    path,
    '  containerd 2.x, version = 3:',
    `  [plugins."io.containerd.cri.v1.images".registry]`,
    path,
    'and containerd is restarted once after that. Changes of hosts.toml need no restart.\n',
  ].join('\n');
}

/** Whether containerd's own settings name the directory. Without the file, 1.x reads none. */
function setsConfigPath(io: CliIo, certsDir: string): boolean {
  let text: string;
  try {
    text = io.machine.readFile(CONTAINERD_CONFIG);
  } catch {
    // None, or not for this user to read: the note is right for the first and does no harm for the second.
    return false;
  }
  const wanted = certsDir.replace(/\/+$/, '');
  return [...text.matchAll(/^[ \t]*config_path[ \t]*=[ \t]*(?:"([^"\n]*)"|'([^'\n]*)')/gm)]
    .flatMap((match) => (match[1] ?? match[2] ?? '').split(':'))
    .some((path) => path.replace(/\/+$/, '') === wanted);
}
