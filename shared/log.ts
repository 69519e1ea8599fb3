import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger };

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
export const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'silent'];

// Values under these keys never reach a log, however deep the caller nests them one level.
const SECRET_PATHS = ['password', 'token', 'authorization', 'secret', 'credentials'].flatMap((key) => [
  key,
  `*.${key}`,
]);

/** JSON lines on stderr: stdout belongs to what a command answers. */
export function createLogger(
  process: string,
  level: LogLevel,
  destination: DestinationStream = pino.destination({ dest: 2, sync: true }),
): Logger {
  return pino(
    {
      name: process,
      level,
      redact: { paths: SECRET_PATHS, censor: '[secret]' },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    destination,
  );
}

/** For tests and one-shot commands. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
