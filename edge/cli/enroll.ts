import { TidepoolError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/log.ts';
import type { AgentFlags } from '../config/flags.ts';
import { loadSettings } from '../config/load-settings.ts';
import { openIdentity } from '../identity/open-identity.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';

export interface EnrollFlags extends AgentFlags {
  readonly config?: string;
  readonly json?: boolean;
}

/** Any: where neighbours reach the node does not matter here, and a host with several addresses need not choose. */
const NO_ADDRESS = '127.0.0.1';

/** Gets this node's certificate now, and tells what it says. */
export async function enrollCommand(io: CliIo, flags: EnrollFlags): Promise<ExitCode> {
  const settings = loadSettings({ address: NO_ADDRESS, ...flags }, flags.config, io.machine);
  if (settings.trust.credential === undefined) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      'there is nothing to enrol with: give --join, --join-file or --sa-token',
    );
  }
  const log = createLogger('tidepool-agent', settings.logLevel, {
    write: (line) => void io.stderr.write(line),
  });
  const identity = openIdentity(settings, { clock: io.clock, log });
  await identity.enrol(io.signal);
  await identity.stop();
  const { pool, keyId, notAfter } = identity.status();
  if (flags.json === true) {
    io.stdout.write(`${JSON.stringify({ node: settings.node, pool, keyId, notAfter })}\n`);
  } else {
    const until = new Date(notAfter ?? 0).toISOString();
    io.stdout.write(`node ${settings.node} is enrolled in pool ${pool}, until ${until}\nkey ${keyId}\n`);
  }
  return EXIT.ok;
}
