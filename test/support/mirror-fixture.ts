import { Mirror, type MirrorInit } from '../../edge/mirror/mirror.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { createLogger, type Logger, silentLogger } from '../../shared/log.ts';
import { FakeContent } from './fake-content.ts';

export interface MirrorFixture {
  readonly content: FakeContent;
  readonly mirror: Mirror;
  readonly port: number;
}

/** A mirror on a free port of loopback over content in memory. */
export async function startMirror(
  init: Partial<MirrorInit> = {},
  parts: { clock?: Clock; log?: Logger } = {},
): Promise<MirrorFixture> {
  const content = new FakeContent();
  const mirror = new Mirror(
    { content, log: parts.log ?? silentLogger(), clock: parts.clock ?? systemClock },
    { host: '127.0.0.1', port: 0, defaultRegistry: 'docker.io', ...init },
  );
  await mirror.start();
  return { content, mirror, port: mirror.address().port };
}

/** Bytes that differ from place to place, so that a shifted range shows. */
export function patternBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++)
    bytes[index] = (index * 31 + (index >> 8) * 17 + (index >> 16)) & 0xff;
  return bytes;
}

/** Resolves once `check` holds; looks again after each turn of the event loop. */
export async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 30_000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A log whose lines are kept, as objects. */
export function keptLog(): { log: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger('test', 'debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { log, lines };
}
