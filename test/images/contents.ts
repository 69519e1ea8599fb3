/**
 * What is in the images, with the same paths as the Dockerfiles give them, but with this machine's Node and the shared
 * libraries that it is linked to: no registry and no container engine is needed to make them.
 */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programFiles } from '../../shared/launch.ts';
import { mustRun } from '../lab/process.ts';
import type { ImageContents, ImageFile } from './layout.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DIST = join(ROOT, 'dist');
const NODE = '/nodejs/bin/node';
const NATIVE = 'node_modules/better-sqlite3/build/Release/better_sqlite3.node';
/** What better-sqlite3 loads at run time, beside its native part. */
const MODULES = ['better-sqlite3/package.json', 'better-sqlite3/lib', 'bindings', 'file-uri-to-path'];

export interface Images {
  readonly agent: ImageContents;
  readonly hub: ImageContents;
}

/** @param version tag of both */
export async function imagesOf(version: string): Promise<Images> {
  const runtime = await runtimeFiles();
  const native = await libraries(join(ROOT, NATIVE));
  const known = new Set(runtime.map(({ path }) => path));
  const app = (name: string): ImageFile[] => [
    { path: `/app/${name}.mjs`, mode: 0o755, from: { file: join(DIST, `${name}.mjs`) } },
    ...Object.values(programFiles(DIST, name))
      .flatMap((file) => [file, `${file}.LEGAL.txt`])
      .filter((file) => existsSync(file))
      .map((file) => ({ path: `/app/${basename(file)}`, from: { file } })),
  ];
  const common = { tag: version, workingDir: '/', labels: { 'org.opencontainers.image.version': version } };
  return {
    agent: {
      ...common,
      layers: [
        [...runtime, ...native.filter(({ path }) => !known.has(path))],
        [{ path: `/app/${NATIVE}`, from: { file: join(ROOT, NATIVE) } }, ...moduleFiles()],
        app('tidepool-agent'),
      ],
      entrypoint: [NODE, '/app/tidepool-agent.mjs'],
      user: '0:0',
    },
    hub: {
      ...common,
      layers: [runtime, app('tidepool-hub')],
      entrypoint: [NODE, '/app/tidepool-hub.mjs'],
      user: '65532:65532',
    },
  };
}

async function runtimeFiles(): Promise<ImageFile[]> {
  const node = realpathSync(process.execPath);
  return [
    { path: NODE, mode: 0o755, from: { file: node } },
    ...(await libraries(node)),
    {
      path: '/etc/passwd',
      from: { text: 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' },
    },
    { path: '/etc/group', from: { text: 'root:x:0:\nnonroot:x:65532:\n' } },
    { path: '/etc/nsswitch.conf', from: { text: 'hosts: files dns\n' } },
  ];
}

/** What `ldd` finds, at the paths where the loader looks for it. */
async function libraries(file: string): Promise<ImageFile[]> {
  const { stdout } = await mustRun(['ldd', file]);
  return [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = '']) => ({
    path,
    mode: 0o755,
    from: { file: realpathSync(path) },
  }));
}

function moduleFiles(): ImageFile[] {
  return MODULES.flatMap((name) => filesIn(join(ROOT, 'node_modules', name))).map((file) => ({
    path: `/app/${relative(ROOT, file)}`,
    from: { file },
  }));
}

function filesIn(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesIn(join(path, name)));
}

/** As package.json has it. */
export function projectVersion(): string {
  const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return version;
}
