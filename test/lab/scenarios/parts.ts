/** Steps that several scenarios share. */
import { setTimeout as delay } from 'node:timers/promises';
import { stream } from '../baseline.ts';
import type { Findings } from '../checks.ts';
import type { SampleImage } from '../image.ts';
import { tagOf } from '../lab.ts';
import { type Host, type PoolOfHosts, wholeAfter, wrongBlobs } from '../pool.ts';
import { listens } from '../proc.ts';
import { Daemon, inNetns, type RunResult, waitUntil } from '../process.ts';
import { script } from '../script.ts';

export interface HostPull {
  readonly host: Host;
  readonly result: RunResult;
  /** Seconds until every blob was whole in containerd's content store; undefined where one never was. */
  readonly wholeSeconds: number | undefined;
  /** Seconds until the pull, unpacking included, had ended. */
  readonly seconds: number;
}

/** Pulls on one host and watches its content store. */
export async function pullOn(
  host: Host,
  image: SampleImage,
  options: { reference?: string; user?: string; timeoutMs?: number } = {},
): Promise<HostPull> {
  const ended = new AbortController();
  const whole = wholeAfter(host, image, ended.signal);
  const { reference = tagOf(image), ...rest } = options;
  const result = await host.containerd.pull(reference, rest);
  // What a successful pull left is seen on the watcher's next look.
  const grace = setTimeout(() => ended.abort(), result.code === 0 ? 200 : 0);
  const wholeSeconds = await whole;
  clearTimeout(grace);
  return { host, result, wholeSeconds, seconds: result.seconds };
}

/** All at once. */
export async function pullOnAll(
  hosts: readonly Host[],
  image: SampleImage,
  options: { user?: string; timeoutMs?: number } = {},
): Promise<HostPull[]> {
  return await Promise.all(hosts.map((host) => pullOn(host, image, options)));
}

/** As CRI does: a pull that failed is tried again after a pause, which is when containerd has let go of a wrong ingest. */
export async function pullWithRetries(
  host: Host,
  image: SampleImage,
  options: { attempts: number; pauseMs: number },
): Promise<{ last: HostPull; failed: string[]; seconds: number }> {
  const started = performance.now();
  const failed: string[] = [];
  for (;;) {
    const last = await pullOn(host, image);
    const seconds = (performance.now() - started) / 1000;
    if (last.result.code === 0) return { last, failed, seconds };
    failed.push(...failures([last]));
    if (failed.length === options.attempts) return { last, failed, seconds };
    await delay(options.pauseMs);
  }
}

/** Fails the scenario for each pull that did not succeed and each blob that is not what its digest says. */
export async function checkPulls(
  findings: Findings,
  name: string,
  pulls: readonly HostPull[],
  image: SampleImage,
): Promise<void> {
  findings.none(`${name}: every pull succeeds`, failures(pulls));
  const wrong = await Promise.all(pulls.map((pull) => wrongBlobs(pull.host, image)));
  findings.none(`${name}: every digest right`, wrong.flat());
}

export function failures(pulls: readonly HostPull[]): string[] {
  return pulls
    .filter(({ result }) => result.code !== 0)
    .map(({ host, result }) => `${host.name}: ${lastLine(result.stderr)}`);
}

export function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}

export function lastWhole(pulls: readonly HostPull[]): number {
  return Math.max(...pulls.map((pull) => pull.wholeSeconds ?? Number.POSITIVE_INFINITY));
}

export function lastPull(pulls: readonly HostPull[]): number {
  return Math.max(...pulls.map((pull) => pull.seconds));
}

/** Bytes per second of one plain HTTP stream from one host of the pool to another. */
export async function measureLan(pool: PoolOfHosts, bytes: number): Promise<number> {
  const from = pool.host(0);
  const port = 7000;
  const source = new Daemon({
    label: 'lan source',
    command: inNetns(from.netns, script('lan-source.ts', from.address, String(port))),
    logFile: '/dev/null',
  });
  try {
    await waitUntil(() => listens(source.pid, port), {
      timeoutMs: 10_000,
      describe: () => 'the LAN source does not listen',
    });
    const { seconds } = await stream(pool.host(1), [`http://${from.address}:${port}/${bytes}`]);
    return bytes / seconds;
  } finally {
    await source.stop();
  }
}
