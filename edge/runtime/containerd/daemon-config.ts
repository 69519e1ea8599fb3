import { describeError } from '../../../shared/errors.ts';
import { parseToml, type TomlFile, type TomlTable } from './toml.ts';

export const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
export const DEFAULT_CERTS_DIR = '/etc/containerd/certs.d';

/** Where each generation of containerd's settings has the registries' directory; `version` of the file names it. */
const SECTIONS = {
  2: 'io.containerd.grpc.v1.cri',
  3: 'io.containerd.cri.v1.images',
} as const;
/** What 2.x takes where its file says nothing; 1.x takes no directory at all. */
export const DEFAULT_DIRECTORIES: readonly string[] = [DEFAULT_CERTS_DIR, '/etc/docker/certs.d'];
const THEN = 'then restart containerd when it suits the node';

/** Whether containerd's settings send its CRI plugin to a certs.d, as far as the file tells. */
export interface DaemonConfigVerdict {
  /** `unknown`: the file cannot be read, or is absent and the release unknown. */
  readonly reads: 'yes' | 'no' | 'unknown';
  /** Directories that containerd looks in, in its order. */
  readonly directories: readonly string[];
  /** What to set and where, for a person; undefined with `yes`. */
  readonly fix: string | undefined;
}

export interface DaemonConfigInit {
  /** Of the file; undefined where there is none. */
  readonly text: string | undefined;
  readonly path: string;
  readonly certsDir: string;
  /** containerd's major release where known. */
  readonly major?: number | undefined;
}

/** Reads containerd's settings as containerd does; never restarts it, which stays a person's decision. */
export function judgeDaemonConfig(init: DaemonConfigInit): DaemonConfigVerdict {
  const { text, path, certsDir, major } = init;
  let file: TomlFile;
  try {
    file = parseToml(text ?? '');
  } catch (error) {
    const fix = `${path} cannot be read (${describeError(error)}); it has to have ${wanted(3, certsDir)}`;
    return { reads: 'unknown', directories: [], fix };
  }
  const said = file.entries.find(({ path: key }) => key.length === 1 && key[0] === 'version')?.value;
  // A file of version 2 is read by 2.x as well, which migrates it: sections of both generations count there.
  const generation = said === 3 || (said === undefined && major !== undefined && major >= 2) ? 3 : 2;
  const entry = file.entries.find(
    ({ path: key }) => isSection(key.slice(0, -1)) && key.at(-1) === 'config_path',
  );
  if (entry !== undefined && typeof entry.value === 'string' && entry.value !== '') {
    const directories = entry.value.split(':');
    const fix = `${path}, line ${entry.line}: config_path is ${quoted(entry.value)}; make it config_path = ${quoted(certsDir)}`;
    if (!directories.some((directory) => same(directory, certsDir))) {
      return { reads: 'no', directories, fix: `${fix}, move what is in the other directory there, ${THEN}` };
    }
    return directories.length === 1
      ? { reads: 'yes', directories, fix: undefined }
      : // Some releases of 2.x take the whole list for one directory's name, and read nothing.
        { reads: 'unknown', directories, fix: `${fix} alone: not every release reads a list; ${THEN}` };
  }
  const old = file.tables.find(
    ({ path: key }) => isSection(key.slice(0, 3)) && (key[3] === 'mirrors' || key[3] === 'configs'),
  );
  const release = major ?? (said === 3 ? 2 : undefined);
  const directories = old === undefined && release !== undefined && release >= 2 ? DEFAULT_DIRECTORIES : [];
  const mayRead =
    old === undefined &&
    (release === undefined || directories.some((directory) => same(directory, certsDir)));
  const fix =
    old !== undefined
      ? oldStyle(old, init, generation)
      : entry !== undefined
        ? `${path}, line ${entry.line}: config_path is empty; make it config_path = ${quoted(certsDir)}, ${THEN}`
        : missing(file, init, generation);
  return { reads: mayRead ? 'unknown' : 'no', directories, fix };
}

function isSection(path: readonly string[]): boolean {
  return (
    path.length === 3 &&
    path[0] === 'plugins' &&
    (path[1] === 'cri' || path[1] === SECTIONS[2] || path[1] === SECTIONS[3]) &&
    path[2] === 'registry'
  );
}

function missing(file: TomlFile, { path, text, certsDir }: DaemonConfigInit, generation: 2 | 3): string {
  const table = file.tables.find(({ path: key }) => isSection(key));
  const where =
    text === undefined
      ? `there is no ${path}: make it, beginning with version = ${generation}, and put in`
      : table === undefined
        ? `${path} has no config_path: put at its end`
        : `${path}, after line ${table.line}: put in`;
  const what = table === undefined ? wanted(generation, certsDir) : `config_path = ${quoted(certsDir)}`;
  return `${where} ${what}, ${THEN}`;
}

function oldStyle(table: TomlTable, { path, certsDir }: DaemonConfigInit, generation: 2 | 3): string {
  return `${path}, line ${table.line}: [${table.path.map(bare).join('.')}] and config_path exclude each other; move what stands there to ${certsDir} and put in ${wanted(generation, certsDir)}, ${THEN}`;
}

function wanted(generation: 2 | 3, certsDir: string): string {
  return `[plugins.${quoted(SECTIONS[generation])}.registry] with config_path = ${quoted(certsDir)}`;
}

function bare(part: string): string {
  return /^[A-Za-z0-9_-]+$/.test(part) ? part : quoted(part);
}

function same(a: string, b: string): boolean {
  return a.replace(/\/+$/, '') === b.replace(/\/+$/, '');
}

/** JSON's strings are TOML's basic strings. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
