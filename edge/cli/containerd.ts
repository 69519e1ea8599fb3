import { join } from 'node:path';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { isRegistryHost } from '../../shared/image-ref.ts';
import { formatHostPort } from '../config/addresses.ts';
import { parseRegistry } from '../config/flags.ts';
import { containerdSettings, opsAddress } from '../config/load-settings.ts';
import {
  CONTAINERD_CONFIG,
  DEFAULT_CERTS_DIR,
  DEFAULT_DIRECTORIES,
  judgeDaemonConfig,
} from '../runtime/containerd/daemon-config.ts';
import { type FileChange, HostsFiles, type RegistryTarget } from '../runtime/containerd/hosts-files.ts';
import { SELF_TEST_REGISTRY } from '../runtime/cri/constants.ts';
import { type AdminFlags, adminClient } from './admin.ts';
import { table } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { OpsClient } from './ops-client.ts';

/** Where containerd's files are; what is left out is as the agent's settings have it. */
export interface PlaceFlags {
  readonly certsDir?: string;
  readonly root?: string;
  readonly config?: string;
  readonly insecure?: boolean;
}

export interface ConfigureFlags extends PlaceFlags {
  readonly registry?: readonly string[];
  readonly default?: boolean;
  readonly existing?: boolean;
  readonly mirror?: string;
  readonly originFallback?: boolean;
  /** False with `--no-fallback`. */
  readonly fallback: boolean;
  readonly ops?: string;
  readonly data?: string;
  readonly json?: boolean;
}

export interface RestoreFlags extends PlaceFlags {
  readonly all?: boolean;
  readonly json?: boolean;
}

/** A line of the answer: a file, or a registry that the agent has learnt of. */
type Change = Omit<FileChange, 'change'> & { readonly change: FileChange['change'] | 'origin' };

/** Points containerd at the mirror, for named registries or for all. */
export async function configureCommand(io: CliIo, flags: ConfigureFlags): Promise<ExitCode> {
  const place = placeOf(io, flags);
  const files = new HostsFiles(place.certsDir, place.hostRoot);
  const mirror = parseMirror(flags.mirror ?? (await mirrorOf(io, flags, place)));
  const fallback = flags.originFallback ?? (flags.fallback ? place.originFallback : false);
  const targets = targetsOf(flags, files);
  const changes: Change[] = files.configure(targets, { mirror, fallback });
  // The agent's self-test asks for this one: it ends at the mirror, whatever is allowed to go past it.
  changes.push(
    ...files.configure([{ registry: SELF_TEST_REGISTRY, pinned: true }], { mirror, fallback: false }),
  );
  const { path, found } = files.recordOrigins(mirror);
  for (const { registry, origin, note } of found) {
    const at = origin === undefined ? `${registry}` : `the agent finds ${registry} at ${origin.url}`;
    const how = [
      origin?.ca === undefined ? [] : ['its authorities copied'],
      origin?.skipVerify ? ['any certificate'] : [],
      note ?? [],
    ].flat();
    changes.push({ path, change: 'origin', note: how.length === 0 ? at : `${at} (${how.join('; ')})` });
  }
  show(io, changes, flags.json === true);
  if (!setsConfigPath(io, place)) io.stderr.write(configPathNote(place.certsDir));
  if (place.hostRoot === '/') await tellSelfTest(io, flags);
  return EXIT.ok;
}

/** Puts back what was there before. */
export function restoreCommand(io: CliIo, flags: RestoreFlags): ExitCode {
  const place = placeOf(io, flags);
  const directories = flags.all === true ? allDirectories(io, place) : [place.certsDir];
  const changes = directories.flatMap((directory) => new HostsFiles(directory, place.hostRoot).restore());
  if (changes.length === 0 && flags.json !== true) {
    io.stdout.write(`nothing of ours is in ${directories.join(' or ')}\n`);
    return EXIT.ok;
  }
  show(io, changes, flags.json === true);
  return EXIT.ok;
}

export interface Place {
  readonly certsDir: string;
  readonly hostRoot: string;
  readonly mirror: string;
  /** By the settings or a flag; else it is a default. */
  readonly mirrorChosen: boolean;
  readonly originFallback: boolean;
}

export function placeOf(io: CliIo, flags: PlaceFlags): Place {
  const { mirror, mirrorChosen, originFallback, certsDir, hostRoot } = containerdSettings(
    flags.config,
    io.machine,
    flags,
  );
  return {
    certsDir: flags.certsDir ?? certsDir,
    hostRoot: flags.root ?? hostRoot,
    mirror: `http://${formatHostPort(mirror)}`,
    mirrorChosen,
    originFallback,
  };
}

/**
 * Where nobody said where the mirror is, the agent that runs on this host is asked, over its socket: whoever may listen on
 * its ops port must not get to say where pulls and their accounts are sent.
 */
export async function mirrorOf(io: CliIo, flags: AdminFlags, place: Place): Promise<string> {
  if (place.mirrorChosen) return place.mirror;
  try {
    const client = await adminClient(io, flags);
    try {
      return `http://${(await client.status()).mirror.replace(/^(0\.0\.0\.0|\[::\]):/, '127.0.0.1:')}`;
    } finally {
      await client.close();
    }
  } catch (error) {
    // No agent runs yet, or it is not this user's to ask.
    if (error instanceof TidepoolError) return place.mirror;
    throw error;
  }
}

/** containerd's own settings; undefined where there are none, or not for this user to read. */
export function daemonConfigText(io: CliIo, { hostRoot }: Place): string | undefined {
  try {
    return io.machine.readFile(join(hostRoot, CONTAINERD_CONFIG));
  } catch {
    return undefined;
  }
}

function allDirectories(io: CliIo, place: Place): readonly string[] {
  const text = daemonConfigText(io, place);
  const { directories } = judgeDaemonConfig({ text, path: CONTAINERD_CONFIG, certsDir: place.certsDir });
  return [...new Set([place.certsDir, DEFAULT_CERTS_DIR, ...DEFAULT_DIRECTORIES, ...directories])];
}

function targetsOf(flags: ConfigureFlags, files: HostsFiles): readonly RegistryTarget[] {
  const { registry = [] } = flags;
  if (
    flags.existing === true
      ? registry.length > 0 && flags.default === true
      : registry.length > 0 === (flags.default === true)
  ) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      'say which registries: --registry HOST for each, or --default for all that have no directory of their own, and --existing for those that have one',
    );
  }
  const named: RegistryTarget[] =
    flags.default === true ? [{ registry: undefined }] : registry.map(parseTarget);
  if (flags.existing !== true) return named;
  const known = new Set([SELF_TEST_REGISTRY, ...named.map((target) => target.registry)]);
  return [
    ...named,
    ...files
      .registries()
      .filter((host) => !known.has(host))
      .map((host) => ({ registry: host })),
  ];
}

/** Asks the agent, where one runs, whether it was of use: it is no failure of this command where it was not. */
async function tellSelfTest(io: CliIo, { ops, config }: ConfigureFlags): Promise<void> {
  const client = new OpsClient(opsAddress(ops, config, io.machine), io.signal);
  try {
    const { mirror, reason, fix } = await client.selfTest();
    if (mirror === 'yes') return;
    const why = [reason, fix === null ? null : `to do: ${fix}`].filter((text) => text !== null).join('; ');
    io.stderr.write(`note: whether containerd uses the mirror: ${mirror.replace('-', ' ')} (${why})\n`);
  } catch (error) {
    // No agent runs yet; it tests at its start.
    if (!(error instanceof TidepoolError)) throw error;
  } finally {
    await client.close();
  }
}

function show(io: CliIo, changes: readonly Change[], json: boolean): void {
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
      `--mirror: not a base URL: ${quote(text)}; write it like http://127.0.0.1:618`,
    );
  }
  return text.replace(/\/+$/, '');
}

/** What a person has to add to containerd's own settings; restarting a node's runtime is theirs to decide. */
function configPathNote(certsDir: string): string {
  const path = `    config_path = ${JSON.stringify(certsDir)}`;
  const unless = certsDir === DEFAULT_CERTS_DIR ? ' (some releases of 2.x do so by themselves)' : '';
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
function setsConfigPath(io: CliIo, place: Place): boolean {
  const text = daemonConfigText(io, place);
  if (text === undefined) return false;
  const { certsDir } = place;
  const { directories } = judgeDaemonConfig({ text, path: CONTAINERD_CONFIG, certsDir });
  return directories.some((path) => path.replace(/\/+$/, '') === certsDir.replace(/\/+$/, ''));
}
