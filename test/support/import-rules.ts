/**
 * Which way imports point: each file belongs to a room, each room may know some others. Types count as much as values,
 * and only a composition root makes objects of another room's classes.
 */

export interface SourceFile {
  /** From the repository's root, with `/`. */
  readonly path: string;
  readonly text: string;
}

/** A room's path prefix (a folder with `/`, or one file) and the rooms it may import, itself aside. */
type Rooms = Readonly<Record<string, readonly string[]>>;

const STORE = ['index'];
const PEERS = ['settings', 'store', ...STORE];
const TRANSFER = ['peers', 'origin', ...PEERS];
const FRONT = ['transfer', ...TRANSFER];
const ROOT = [
  'peers/server',
  'retention',
  'mirror',
  'prefetch',
  'bundles',
  'runtime',
  'sync',
  'ops',
  'identity',
  'version',
  ...FRONT,
];

/** The agent, by room; every room may import shared/. */
const EDGE: Rooms = {
  settings: [],
  version: [],
  index: [],
  store: STORE,
  origin: PEERS,
  peers: PEERS,
  identity: PEERS,
  transfer: TRANSFER,
  'peers/server': FRONT,
  retention: PEERS.concat('peers'),
  mirror: FRONT,
  prefetch: FRONT,
  bundles: FRONT,
  sync: [...FRONT, 'version'],
  ops: [...FRONT, 'identity'],
  runtime: [],
  config: ['settings'],
  parts: [...ROOT, 'config'],
  components: ['parts', ...ROOT, 'config'],
  cli: ['components', 'config', 'identity', 'runtime', 'ops', 'settings', 'version'],
  main: ['cli', 'components', 'config'],
};

/** Files beside the rooms' folders: those that tie rooms together are one room. */
const EDGE_FILES: Readonly<Record<string, string>> = {
  'components.ts': 'components',
  'sources.ts': 'components',
  'tuner.ts': 'components',
  'engine.ts': 'main',
  'launch.ts': 'main',
  'peers/server.ts': 'peers/server',
};

const HUB_BASE = ['data', 'desired', 'config', 'version'];
const HUB_CORE = ['pools', 'trust', 'registry', 'prefetch', 'bundles', ...HUB_BASE];
const HUB_FRONT = ['documents', 'kube', 'broker', 'follow', 'hooks', 'api', 'ui', ...HUB_CORE];

/** The hub. `desired` and `data` are what its rooms agree on; a source of documents is a front like Kubernetes. */
const CLOUD: Rooms = {
  version: [],
  data: [],
  desired: ['data'],
  config: [],
  pools: HUB_BASE,
  trust: HUB_BASE,
  registry: HUB_BASE,
  prefetch: ['pools', 'trust', 'registry', ...HUB_BASE],
  bundles: ['trust', 'registry', ...HUB_BASE],
  documents: HUB_CORE,
  kube: HUB_CORE,
  broker: HUB_CORE,
  follow: HUB_CORE,
  hooks: HUB_CORE,
  api: HUB_CORE,
  ui: HUB_CORE,
  components: HUB_FRONT,
  cli: ['components', 'config', 'data', 'pools', 'bundles', 'registry', 'version'],
  main: ['cli', 'components', 'config'],
};

const CLOUD_FILES: Readonly<Record<string, string>> = {
  'api-access.ts': 'components',
  'automation.ts': 'components',
  'engine.ts': 'main',
  'components.ts': 'components',
  'event-parts.ts': 'components',
  'launch.ts': 'main',
  'sources.ts': 'components',
  'terms.ts': 'components',
  'trust-parts.ts': 'components',
  'uninstall.ts': 'components',
};

const SIDES: Readonly<Record<string, { rooms: Rooms; files: Readonly<Record<string, string>> }>> = {
  edge: { rooms: EDGE, files: EDGE_FILES },
  cloud: { rooms: CLOUD, files: CLOUD_FILES },
};

/** Rooms whose classes anybody may make, as those of shared/. */
const TOOLS: ReadonlySet<string> = new Set(['shared', 'data']);
/** Rooms that may make what other rooms define. */
const ROOTS: ReadonlySet<string> = new Set(['components', 'parts', 'main', 'cli']);

/** Every offence, as `path: what is wrong`. */
export function importOffences(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => offencesOf(file));
}

function offencesOf(file: SourceFile): string[] {
  const from = placeOf(file.path);
  const offences: string[] = [];
  if (from === undefined) return [`${file.path}: belongs to no room`];
  const foreign = new Set<string>();
  for (const { specifier, names } of importsOf(file.text)) {
    if (!specifier.startsWith('.')) continue;
    const target = resolvePath(file.path, specifier);
    const to = placeOf(target);
    const why = to === undefined ? 'which is in no room' : refusal(from, to);
    if (why !== undefined) offences.push(`${file.path}: imports ${target}, ${why}`);
    if (to !== undefined && !TOOLS.has(to.room) && to.room !== from.room) {
      for (const name of names) foreign.add(name);
    }
  }
  if (/\bimport\s*\(\s*(?!['"])/.test(withoutComments(file.text))) {
    offences.push(`${file.path}: imports by a computed name, which nobody can check`);
  }
  if (from.side === 'shared' || ROOTS.has(from.room)) return offences;
  for (const [, name = ''] of withoutComments(file.text).matchAll(/\bnew\s+([A-Za-z_$][\w$]*)/g)) {
    if (foreign.has(name)) {
      offences.push(`${file.path}: makes a ${name} of another room; that is for components.ts`);
    }
  }
  return offences;
}

interface Place {
  readonly side: string;
  readonly room: string;
}

function placeOf(path: string): Place | undefined {
  const [side = '', ...rest] = path.split('/');
  if (side === 'shared') return { side, room: 'shared' };
  const house = SIDES[side];
  if (house === undefined) return undefined;
  const inner = rest.join('/');
  const room = house.files[inner] ?? (rest.length === 1 ? inner.replace(/\.ts$/, '') : (rest[0] ?? ''));
  return room in house.rooms ? { side, room } : undefined;
}

/** Why one place may not import another; undefined where it may. */
function refusal(from: Place, to: Place): string | undefined {
  if (to.side === 'shared') return undefined;
  if (from.side === 'shared') return 'and shared/ imports nothing of the project';
  if (from.side !== to.side) return `and ${from.side}/ and ${to.side}/ do not know each other`;
  if (from.room === to.room) return undefined;
  const known = SIDES[from.side]?.rooms[from.room] ?? [];
  return known.includes(to.room) ? undefined : `and ${from.room} may not know ${to.room}`;
}

interface Import {
  readonly specifier: string;
  /** Names as they are used in the file. */
  readonly names: readonly string[];
}

/** Imports, re-exports and dynamic imports, of values and of types alike. */
export function importsOf(text: string): Import[] {
  const source = withoutComments(text);
  const found: Import[] = [];
  const statement = /\b(?:import|export)\s+(?:type\s+)?([\w$*\s{},]*?)\s*\bfrom\s*['"]([^'"\n]+)['"]/g;
  for (const [, clause = '', specifier = ''] of source.matchAll(statement)) {
    found.push({ specifier, names: namesIn(clause) });
  }
  for (const [, specifier = ''] of source.matchAll(/\bimport\s*\(?\s*['"]([^'"\n]+)['"]/g)) {
    found.push({ specifier, names: [] });
  }
  return found;
}

function namesIn(clause: string): string[] {
  return clause
    .replace(/[{}]/g, ',')
    .split(',')
    .map(
      (part) =>
        part
          .trim()
          .replace(/^type\s+/, '')
          .split(/\s+as\s+/)
          .at(-1)
          ?.trim() ?? '',
    )
    .filter((name) => /^[A-Za-z_$][\w$]*$/.test(name));
}

/** Comments blanked; strings stay. */
function withoutComments(text: string): string {
  const token = /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  return text.replace(token, (whole, string: string | undefined) => (string === undefined ? ' ' : whole));
}

function resolvePath(from: string, specifier: string): string {
  const parts = from.split('/').slice(0, -1);
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}
