import { systemClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/log.ts';
import { startHub } from '../components.ts';
import { loadHubSettings, type WrittenSettings } from '../config/settings.ts';
import { type CliIo, EXIT } from './io.ts';

/** Runs the hub until the signal; the answer is the exit code. */
export async function runHub(
  flags: WrittenSettings,
  file: string | undefined,
  version: string,
  io: CliIo,
): Promise<number> {
  const settings = await loadHubSettings(flags, file);
  const log = createLogger('tidepool-hub', settings.logLevel);
  if (settings.insecure) {
    log.warn('insecure: connections are plain, and any node that can reach the broker may join any pool');
  }
  const hub = await startHub({ clock: systemClock, log, version, env: process.env }, settings);
  log.info({ mqtt: hub.mqtt, api: hub.api, epoch: hub.epoch }, 'hub is up');
  if (!io.signal.aborted) {
    await new Promise<void>((resolve) =>
      io.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
  }
  log.info('stopping');
  await hub.stop();
  log.info('stopped');
  return EXIT.ok;
}
