import { chmodSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { TidepoolError } from '../../shared/errors.ts';

/** In the data directory. */
export const ADMIN_SOCKET = 'ops.sock';
/** Of a unix socket's address on Linux. */
const MAX_SOCKET_CHARS = 107;
const PROBE_MS = 1_000;

/**
 * Listens on a socket that the agent's own user alone can connect to. One that an agent left behind when it was killed is
 * taken away; one that somebody answers at is not.
 * @throws TidepoolError INVALID_CONFIG
 */
export async function listenOnSocket(path: string, listen: (path: string) => Promise<void>): Promise<void> {
  if (Buffer.byteLength(path) > MAX_SOCKET_CHARS) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `the agent's socket ${path} has a path of over ${MAX_SOCKET_CHARS} characters, which no system takes; set a shorter data directory with --data`,
    );
  }
  if (!(await answers(path))) removeIfThere(path);
  // The socket is made within the call, so nobody finds it with more rights for even a moment.
  const before = process.umask(0o177);
  let listening: Promise<void>;
  try {
    listening = listen(path);
  } finally {
    process.umask(before);
  }
  await listening;
  chmodSync(path, 0o600);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: PROBE_MS });
    const end = (there: boolean) => (): void => {
      socket.destroy();
      resolve(there);
    };
    socket.once('connect', end(true));
    socket.once('timeout', end(true));
    socket.once('error', end(false));
  });
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}
