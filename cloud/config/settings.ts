/** What a hub is started with: one YAML file, flags over it. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { loadConfig } from '../../shared/config-file.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { LOG_LEVELS, type LogLevel } from '../../shared/log.ts';
import { parseBrokerUrl } from '../../shared/mqtt/session.ts';

export interface Listen {
  readonly host: string;
  readonly port: number;
}

export interface HubSettings {
  /** Directory of YAML documents. */
  readonly documents: string | undefined;
  /** `embedded`, or the URL of a broker. */
  readonly broker: string;
  /** Where the embedded broker listens. */
  readonly mqtt: Listen;
  readonly api: Listen;
  /** Directory of what the hub has to remember. */
  readonly data: string;
  /** Plain connections and nodes that nobody vouches for. */
  readonly insecure: boolean;
  readonly logLevel: LogLevel;
}

/** As people write them, in the file and as flags. */
export interface WrittenSettings {
  readonly documents?: string | undefined;
  readonly broker?: string | undefined;
  readonly mqtt?: string | undefined;
  readonly api?: string | undefined;
  readonly data?: string | undefined;
  readonly insecure?: boolean | undefined;
  readonly logLevel?: string | undefined;
}

const listenText = z.string().superRefine((text, context) => checked(context, () => parseListen(text)));
const brokerText = z
  .string()
  .superRefine((text, context) => checked(context, () => text === 'embedded' || parseBrokerUrl(text)));

export const hubSettingsSchema: z.ZodType<WrittenSettings> = z.strictObject({
  documents: z.string().min(1).optional(),
  broker: brokerText.optional(),
  mqtt: listenText.optional(),
  api: listenText.optional(),
  data: z.string().min(1).optional(),
  insecure: z.boolean().optional(),
  logLevel: z.enum(LOG_LEVELS.map(String)).optional(),
});

export const DEFAULTS = {
  broker: 'embedded',
  mqtt: '0.0.0.0:6183',
  api: '0.0.0.0:6190',
  data: '/var/lib/tidepool-hub',
  logLevel: 'info',
} as const;

/** @throws TidepoolError INVALID_CONFIG for the file, INVALID_ARGUMENT for a flag */
export async function loadHubSettings(
  flags: WrittenSettings,
  file: string | undefined,
): Promise<HubSettings> {
  const written = file === undefined ? {} : loadConfig(hubSettingsSchema, await readText(file), file);
  const of = <K extends keyof WrittenSettings>(key: K): WrittenSettings[K] => flags[key] ?? written[key];
  const broker = of('broker') ?? DEFAULTS.broker;
  if (broker !== 'embedded') parseBrokerUrl(broker);
  return Object.freeze({
    documents: of('documents'),
    broker,
    mqtt: parseListen(of('mqtt') ?? DEFAULTS.mqtt),
    api: parseListen(of('api') ?? DEFAULTS.api),
    data: of('data') ?? DEFAULTS.data,
    insecure: of('insecure') ?? false,
    logLevel: parseLevel(of('logLevel') ?? DEFAULTS.logLevel),
  });
}

/** `host:port`, `[::]:port`, `:port`. @throws TidepoolError INVALID_ARGUMENT */
export function parseListen(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not an address to listen at: ${quote(text)}; write it like 0.0.0.0:6190`,
    );
  }
  return { host: match[1] ?? (match[2] || '0.0.0.0'), port };
}

function parseLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((each) => each === text);
  if (level !== undefined) return level;
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `not a log level: ${quote(text)}; known: ${LOG_LEVELS.join(', ')}`,
  );
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const message = `the settings file ${file} cannot be read: ${describeError(error)}`;
    throw new TidepoolError('INVALID_CONFIG', message, { cause: error });
  }
}

function checked(context: z.RefinementCtx, check: () => unknown): void {
  try {
    check();
  } catch (error) {
    context.addIssue({ code: 'custom', message: describeError(error) });
  }
}
