import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuSeconds } from '../lab/proc.ts';
import { Daemon, mustRun, waitUntil } from '../lab/process.ts';
import type { Cleanup } from '../support/cleanup.ts';
import { freePort } from '../support/free-port.ts';

/** One way to the same bytes, and who pays for it. */
export interface Server {
  readonly name: string;
  readonly pid: number;
  readonly url: string;
}

export interface Served {
  readonly bytesPerSecond: number;
  readonly cpuPerGb: number;
}

/** docker-registry with one blob in its store; undefined where it is not installed. */
export async function dockerRegistry(
  cleanup: Cleanup,
  directory: string,
  blob: Buffer,
): Promise<Server | undefined> {
  try {
    await mustRun(['docker-registry', '--version']);
  } catch {
    return undefined;
  }
  const port = await freePort('127.0.0.1');
  const root = join(directory, 'registry');
  const config = join(directory, 'registry.yml');
  mkdirSync(root, { recursive: true });
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${root}}}\nhttp: {addr: "127.0.0.1:${port}"}\n`,
  );
  const daemon = new Daemon({
    label: 'docker-registry',
    command: ['docker-registry', 'serve', config],
    logFile: join(directory, 'registry.log'),
  });
  cleanup.add('docker-registry', () => daemon.stop());
  const url = `http://127.0.0.1:${port}`;
  await waitUntil(
    async () =>
      await fetch(`${url}/v2/`).then(
        (answer) => answer.ok,
        () => false,
      ),
    { timeoutMs: 10_000, describe: () => `docker-registry does not come up: ${daemon.tail()}` },
  );
  const begun = await fetch(`${url}/v2/app/blobs/uploads/`, { method: 'POST' });
  const location = new URL(begun.headers.get('location') ?? '', url);
  const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
  location.searchParams.set('digest', digest);
  const put = await fetch(location, {
    method: 'PUT',
    body: blob,
    headers: { 'content-type': 'application/octet-stream' },
  });
  if (put.status !== 201) throw new Error(`docker-registry takes no blob: ${put.status}`);
  return { name: 'docker-registry', pid: daemon.pid, url: `${url}/v2/app/blobs/${digest}` };
}

/** One download by a client of its own that throws the bytes away. */
export async function serveOnce(server: Server, bytes: number): Promise<Served> {
  const before = cpuSeconds(server.pid);
  const started = performance.now();
  const { stdout } = await mustRun(['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download}', server.url]);
  const seconds = (performance.now() - started) / 1000;
  if (Number(stdout) !== bytes) throw new Error(`${server.name} sent ${stdout} bytes, not ${bytes}`);
  return { bytesPerSecond: bytes / seconds, cpuPerGb: (cpuSeconds(server.pid) - before) / (bytes / 1e9) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
