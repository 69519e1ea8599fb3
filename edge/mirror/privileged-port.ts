import { readFileSync } from 'node:fs';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/** First port that every user may listen on; Linux lets an administrator move it. */
const SETTING = '/proc/sys/net/ipv4/ip_unprivileged_port_start';
const USUAL_FIRST = 1_024;

/**
 * True where any user of the node may listen on the port: while the agent is down one of them can take its place, be asked
 * for images, and be sent the accounts that come with pulls.
 */
export function openToEveryUser(port: number, read: () => string = readSetting): boolean {
  return port >= firstUnprivileged(read);
}

/** Why the mirror does not listen, with what to do about it. */
export function listenError(host: string, port: number, error: unknown): TidepoolError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const fix =
    code === 'EACCES' || code === 'EPERM'
      ? `ports below ${firstUnprivileged(readSetting)} are for root, or for a process with CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; Kubernetes: securityContext.capabilities.add: [NET_BIND_SERVICE]); with --mirror another port can be set, which any user of this node can take while the agent is down`
      : 'free the port or set another with --mirror';
  return new TidepoolError(
    'INVALID_CONFIG',
    `the mirror cannot listen on ${host}:${port}: ${describeError(error)}; ${fix}`,
    { cause: error },
  );
}

function firstUnprivileged(read: () => string): number {
  const text = read().trim();
  return /^\d{1,5}$/.test(text) ? Number(text) : USUAL_FIRST;
}

function readSetting(): string {
  try {
    return readFileSync(SETTING, 'utf8');
  } catch {
    // Not Linux, or /proc is hidden: then it is as everywhere.
    return '';
  }
}
