import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, waitUntil } from '../../lab/process.ts';
import type { Cleanup } from '../cleanup.ts';

export interface KubeHub {
  readonly pid: number;
  /** `http://host:port` */
  readonly api: string;
  /** Bytes of its memory that are resident now. */
  rss(): number;
  /** Its log so far. */
  log(): string;
  get<T>(route: string): Promise<T>;
  status(route: string): Promise<{ readonly status: number; readonly text: string }>;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** `tidepool-hub run --kubeconfig` from the bundle; resolves when its API answers. */
export async function startKubeHub(
  cleanup: Cleanup,
  init: { bundle: string; directory: string; name: string; kubeconfig: string; flags?: readonly string[] },
): Promise<KubeHub> {
  const { bundle, directory, name, kubeconfig, flags = ['--broker=embedded', '--mqtt=127.0.0.1:0'] } = init;
  const logFile = join(directory, `${name}.log`);
  const daemon = new Daemon({
    label: name,
    logFile,
    command: [
      process.execPath,
      bundle,
      'run',
      `--kubeconfig=${kubeconfig}`,
      '--api=127.0.0.1:0',
      `--data=${join(directory, name)}`,
      '--insecure',
      ...flags,
    ],
  });
  cleanup.addProcess(name, async () => {
    // One that stands still would never see that it is to end.
    if (daemon.running) process.kill(daemon.pid, 'SIGCONT');
    await daemon.stop();
  });
  const log = (): string => readFileSync(logFile, 'utf8');
  let api = '';
  await waitUntil(
    () => {
      if (!daemon.running) throw new Error(`${name} ended at once: ${daemon.tail()}`);
      const line = log()
        .split('\n')
        .find((each) => each.includes('"hub is up"') && each.endsWith('}'));
      if (line === undefined) return false;
      api = `http://${(JSON.parse(line) as { api: string }).api}`;
      return true;
    },
    { timeoutMs: 90_000, describe: () => `${name} does not come up: ${daemon.tail()}` },
  );
  const ask = (route: string): Promise<Response> =>
    fetch(api + route, { signal: AbortSignal.timeout(20_000) });
  return {
    pid: daemon.pid,
    api,
    log,
    rss() {
      const pages = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1];
      return Number(pages) * 1024;
    },
    async get<T>(route: string): Promise<T> {
      const answer = await ask(route);
      if (!answer.ok) throw new Error(`${name} ${route}: ${answer.status} ${await answer.text()}`);
      return (await answer.json()) as T;
    },
    async status(route) {
      const answer = await ask(route);
      return { status: answer.status, text: await answer.text() };
    },
    signal: (signal) => process.kill(daemon.pid, signal),
    stop: () => daemon.stop(),
  };
}
