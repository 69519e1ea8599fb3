/** Where a run keeps its gigabytes, and how nothing of it stays behind, not even after a crash. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { livesAs } from './proc.ts';
import { mustRun, run } from './process.ts';
import { removeNamespace } from './topology.ts';

const MEMORY_DISK = '/dev/shm';
const MEMORY_DISK_FREE = 12 * 2 ** 30;
const MEMORY_AVAILABLE = 16 * 2 ** 30;
const DIRECTORY = /^tidepool-lab-(\d+)$/;
const NAMESPACE = /^tp(\d+)[cpr]/;
/** What the command line of a running lab holds. */
const SELF = 'test/lab/main';

/** `LAB_DIR`, else memory where there is plenty (disk speed is no part of what is measured), else the temporary directory. */
export function labBase(): string {
  const named = process.env.LAB_DIR;
  if (named !== undefined && named !== '') return named;
  if (existsSync(MEMORY_DISK)) {
    const { bavail, bsize } = statfsSync(MEMORY_DISK);
    const available = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0);
    if (bavail * bsize >= MEMORY_DISK_FREE && available * 1024 >= MEMORY_AVAILABLE) return MEMORY_DISK;
  }
  return tmpdir();
}

/** The run's own directory, made empty. */
export function makeWorkspace(base: string): string {
  const directory = join(base, `tidepool-lab-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Unmounts what runc and containerd left below a directory, deepest first, then deletes it. */
export async function removeTree(directory: string): Promise<void> {
  await unmountBelow(directory);
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

async function unmountBelow(directory: string): Promise<void> {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${directory}/`))
    .sort((a, b) => b.length - a.length);
  for (const point of points) await mustRun(['umount', '--lazy', point]);
}

/** Removes namespaces and directories of runs whose process is dead. */
export async function removeLeftovers(base: string): Promise<string[]> {
  const dead = (pid: string | undefined): boolean => pid !== undefined && !livesAs(Number(pid), SELF);
  const removed: string[] = [];
  const { stdout } = await run(['ip', 'netns', 'list']);
  for (const line of stdout.split('\n')) {
    const name = line.split(' ')[0] ?? '';
    if (!dead(NAMESPACE.exec(name)?.[1])) continue;
    await removeNamespace(name);
    removed.push(name);
  }
  for (const parent of new Set([base, MEMORY_DISK, tmpdir()].filter((path) => existsSync(path)))) {
    for (const name of readdirSync(parent)) {
      if (!dead(DIRECTORY.exec(name)?.[1])) continue;
      await removeTree(join(parent, name));
      removed.push(join(parent, name));
    }
  }
  return removed;
}
