import { statSync } from 'node:fs';
import { join } from 'node:path';
import { TidepoolError } from '../../shared/errors.ts';
import { dataDirectory, opsAddress } from '../config/load-settings.ts';
import { ADMIN_SOCKET } from '../ops/admin-socket.ts';
import type { CliIo } from './io.ts';
import { OpsClient } from './ops-client.ts';

/** How the running agent is found, for what its own user alone may ask of it. */
export interface AdminFlags {
  readonly data?: string;
  readonly ops?: string;
  readonly config?: string;
}

/**
 * A client of the agent's socket: in the data directory that a flag or the settings name, else in the default one; where
 * none is there, the agent that answers at its ops address says where.
 */
export async function adminClient(io: CliIo, flags: AdminFlags): Promise<OpsClient> {
  const { path: data, chosen } = dataDirectory(flags.data, flags.config, io.machine);
  const socketPath = join(data, ADMIN_SOCKET);
  const here =
    flags.data !== undefined || (flags.ops === undefined && (chosen || ownerOf(socketPath) !== undefined));
  return new OpsClient({ socketPath: here ? socketPath : await askedSocket(io, flags) }, io.signal);
}

async function askedSocket(io: CliIo, flags: AdminFlags): Promise<string> {
  const client = new OpsClient(opsAddress(flags.ops, flags.config, io.machine), io.signal);
  try {
    const { adminSocket } = await client.status();
    const owner = adminSocket === undefined ? undefined : ownerOf(adminSocket);
    // Whoever may listen on a port could answer there, and would get the accounts that come with a pull.
    if (adminSocket !== undefined && (owner === 0 || owner === process.getuid?.())) return adminSocket;
    throw new TidepoolError(
      'PEER_UNREACHABLE',
      `the agent's socket ${adminSocket ?? ''} is not there, or is not root's or yours; say with --data where the agent keeps its data`,
    );
  } finally {
    await client.close();
  }
}

/** Undefined where there is nothing, or nothing that this user may see. */
function ownerOf(path: string): number | undefined {
  try {
    return statSync(path).uid;
  } catch {
    return undefined;
  }
}
