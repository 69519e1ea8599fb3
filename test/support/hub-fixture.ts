import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Hub, startHub } from '../../cloud/components.ts';
import type { HubSettings } from '../../cloud/config/settings.ts';
import { systemClock } from '../../shared/clock.ts';
import { type Logger, silentLogger } from '../../shared/log.ts';
import { freePort } from './free-port.ts';

export interface HubFixture {
  readonly documents: string;
  readonly data: string;
  /** The running hub. */
  hub: Hub;
  /** Base URL of its API. */
  readonly api: string;
  /** URL of its broker. */
  readonly mqtt: string;
  write(file: string, text: string): Promise<void>;
  /** Starts another over the same data, once the one before was stopped; 0 picks a free port for its broker. */
  start(port: number): Promise<void>;
  /** Stops the hub and starts another over the same data, on the same broker address. */
  restart(): Promise<void>;
  get<T>(route: string): Promise<T>;
  close(): Promise<void>;
}

/** A hub in this process, on loopback and free ports, over temporary directories. */
export async function startTestHub(
  init: {
    readonly files?: Record<string, string>;
    readonly broker?: string;
    readonly log?: Logger;
    /** Where registries are; without any, the hub asks none and tags stay as they are written. */
    readonly registries?: HubSettings['registries'];
    readonly settings?: Partial<HubSettings>;
    /** Already filled; it is left alone at the end. */
    readonly data?: string;
  } = {},
): Promise<HubFixture> {
  const root = await mkdtemp(path.join(tmpdir(), 'tidepool-hub-'));
  const documents = path.join(root, 'documents');
  const data = init.data ?? path.join(root, 'data');
  await mkdir(documents);
  const write = (file: string, text: string): Promise<void> => writeFile(path.join(documents, file), text);
  for (const [file, text] of Object.entries(init.files ?? {})) await write(file, text);
  const log = init.log ?? silentLogger();
  const start = async (port: number): Promise<Hub> => {
    const settings: HubSettings = {
      documents,
      data,
      broker: init.broker ?? 'embedded',
      // Others may start there again later.
      mqtt: { host: '127.0.0.1', port: port === 0 ? await freePort('127.0.0.1') : port },
      api: { host: '127.0.0.1', port: 0 },
      ...(init.registries === undefined ? { pinTags: false } : { registries: init.registries }),
      insecure: true,
      logLevel: 'silent',
      ...init.settings,
    };
    return startHub({ clock: systemClock, log }, settings);
  };
  const fixture: HubFixture = {
    documents,
    data,
    hub: await start(0),
    write,
    get api() {
      return `http://${fixture.hub.api}`;
    },
    get mqtt() {
      return init.broker ?? `mqtt://${fixture.hub.mqtt}`;
    },
    async start(port) {
      fixture.hub = await start(port);
    },
    async restart() {
      const port = init.broker === undefined ? Number(fixture.hub.mqtt.split(':').at(-1)) : 0;
      await fixture.hub.stop();
      fixture.hub = await start(port);
    },
    async get<T>(route: string): Promise<T> {
      const answer = await fetch(`${fixture.api}${route}`);
      return (await answer.json()) as T;
    },
    async close() {
      await fixture.hub.stop();
      await rm(root, { recursive: true, force: true });
    },
  };
  return fixture;
}

/** Asks until the answer fits; the last answer is in the error when it never does. */
export async function eventually<T>(
  ask: () => T | Promise<T>,
  fits: (value: T) => boolean,
  ms = 30_000,
): Promise<T> {
  const until = Date.now() + ms;
  for (;;) {
    const value = await ask();
    if (fits(value)) return value;
    if (Date.now() > until) throw new Error(`never came true; last: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
