import { spawn } from 'node:child_process';
import {
  type ApiServerBinaries,
  type RealApiServer,
  startApiServer,
  type TestApiServer,
} from './api-server.ts';

/**
 * Ends what is named on its standard input once that closes, which is when the process of the tests ends, however it does.
 * A number that has gone to another process meanwhile is not ours: ours have their directory among their arguments.
 */
const REAPER = `
pids=
while read -r pid; do pids="$pids $pid"; done
for pid in $pids; do
  if ps -o args= -p "$pid" | grep -qF "$1"; then kill -9 "$pid"; fi
done
sleep 1
rm -rf "$1"
`;

let shared: Promise<RealApiServer> | undefined;

/**
 * As new. `close` gives it back: it stands still until the next one takes it, and costs nothing meanwhile. A start costs ten
 * seconds of a processor, so the files that share a test process share the server too, one after the other.
 */
export async function takeApiServer(found: ApiServerBinaries): Promise<TestApiServer> {
  shared ??= begin(found).catch((error: unknown) => {
    shared = undefined;
    throw error;
  });
  const server = await shared;
  await server.wake();
  await server.clear();
  return { ...server, close: async () => server.rest() };
}

async function begin(found: ApiServerBinaries): Promise<RealApiServer> {
  const early: number[] = [];
  let tell = (pid: number): void => void early.push(pid);
  const server = await startApiServer(found, { onSpawn: (pid) => tell(pid) });
  const reaper = spawn('sh', ['-c', REAPER, 'reaper', server.root], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  tell = (pid) => void reaper.stdin.write(`${pid}\n`);
  for (const pid of early) tell(pid);
  // It must not keep the process of the tests alive.
  reaper.unref();
  const { stdin } = reaper;
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  return server;
}
