import { type DestinationStream, type Logger, pino } from 'pino';
import { CENSORED, withoutSecrets } from './secret.ts';

export type { Logger };

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
export const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'silent'];

// Values under these keys never reach a log, down to where an error's details or a request's headers are.
const SECRET_PATHS = [
  'password',
  'token',
  'accessToken',
  'authorization',
  'secret',
  'credentials',
  'account',
  'cookie',
].flatMap((key) => [key, `*.${key}`, `*.*.${key}`, `*.*.*.${key}`]);

/**
 * JSON lines on stderr: stdout belongs to what a command answers. Secrets are left out three times: by their type
 * (`Secret`), by the names of fields, and by what a line looks like, for texts that others have made.
 */
export function createLogger(
  process: string,
  level: LogLevel,
  destination: DestinationStream = pino.destination({ dest: 2, sync: true }),
): Logger {
  return pino(
    {
      name: process,
      level,
      redact: { paths: SECRET_PATHS, censor: CENSORED },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    { write: (line) => destination.write(withoutSecrets(line)) },
  );
}

/** For tests and one-shot commands. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
