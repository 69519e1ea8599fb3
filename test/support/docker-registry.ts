/** Debian's docker-registry on loopback, as an origin that is nobody's double. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, waitUntil } from '../lab/process.ts';
import { freePort } from './free-port.ts';

const START_MS = 20_000;

export interface DockerRegistry {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** `127.0.0.1:port` */
  readonly host: string;
  stop(): Promise<void>;
}

/** Resolves when it answers. Keeps what it holds in `directory`. */
export async function startDockerRegistry(directory: string): Promise<DockerRegistry> {
  const host = `127.0.0.1:${await freePort('127.0.0.1')}`;
  const config = join(directory, 'registry.yml');
  writeFileSync(
    config,
    [
      'version: 0.1',
      'log: {level: error}',
      `storage: {filesystem: {rootdirectory: ${JSON.stringify(join(directory, 'registry'))}}}`,
      `http: {addr: "${host}"}`,
      '',
    ].join('\n'),
  );
  const daemon = new Daemon({
    label: 'docker-registry',
    command: ['docker-registry', 'serve', config],
    logFile: join(directory, 'registry.log'),
  });
  const answers = (): Promise<boolean> =>
    fetch(`http://${host}/v2/`).then(
      (answer) => answer.ok,
      () => false,
    );
  await waitUntil(
    async () => {
      if (!daemon.running) throw new Error(`docker-registry ended at once: ${daemon.tail()}`);
      return await answers();
    },
    { timeoutMs: START_MS, describe: () => `docker-registry does not come up: ${daemon.tail()}` },
  );
  return { url: `http://${host}`, host, stop: () => daemon.stop() };
}
