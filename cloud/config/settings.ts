/** What a hub is started with: one YAML file, flags over it. */
import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import { loadConfig } from '../../shared/config-file.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseNodeName, quote } from '../../shared/ids.ts';
import { LOG_LEVELS, type LogLevel } from '../../shared/log.ts';
import type { BrokerTrust } from '../../shared/mqtt/broker-stream.ts';
import { brokerTrustOf } from '../../shared/mqtt/broker-trust.ts';
import { parseBrokerUrl } from '../../shared/mqtt/session.ts';
import { type HookSettings, hookSettings } from './hook-settings.ts';
import { type TrustSettings, trustOf, trustSettings, type WrittenTrust } from './trust-settings.ts';

export interface Listen {
  readonly host: string;
  readonly port: number;
}

export interface KubernetesSettings {
  /** Undefined in a pod of the cluster. */
  readonly kubeconfig: string | undefined;
  /** Of the tuning ConfigMap, the lease and pull secrets. */
  readonly namespace: string;
}

export interface HubSettings {
  /** Directory of YAML documents. */
  readonly documents: string | undefined;
  /** Work from a cluster instead; absent: do not. */
  readonly kubernetes?: KubernetesSettings | undefined;
  /** `embedded`, or the URL of a broker. */
  readonly broker: string;
  /** How a broker elsewhere proves itself; absent: as the hub. */
  readonly brokerTrust?: BrokerTrust | undefined;
  /** Where the embedded broker listens. */
  readonly mqtt: Listen;
  readonly api: Listen;
  /** `/metrics` without a token; for everything else there is no such thing. */
  readonly openMetrics?: boolean;
  /** Directory of what the hub has to remember. */
  readonly data: string;
  /** Where registries are that are not at https and their own name; certificates as text. */
  readonly registries?: Readonly<Record<string, { readonly url: string; readonly ca?: string }>>;
  /** False: the hub asks no registry, and agents find out themselves what tags name. */
  readonly pinTags?: boolean;
  /** What registries may tell of pushes; absent: nobody may. */
  readonly hooks?: HookSettings | undefined;
  /** Of the authority and who is let in; the defaults where left out. */
  readonly trust?: TrustSettings;
  /** Plain connections and nodes that nobody vouches for. */
  readonly insecure: boolean;
  readonly logLevel: LogLevel;
}

export interface WrittenRegistry {
  readonly url: string;
  readonly caFile?: string | undefined;
}

/** As people write them, in the file and as flags. */
export interface WrittenSettings {
  readonly documents?: string | undefined;
  readonly kubernetes?: boolean | undefined;
  readonly kubeconfig?: string | undefined;
  readonly namespace?: string | undefined;
  readonly broker?: string | undefined;
  /** PEM file. */
  readonly brokerCa?: string | undefined;
  readonly brokerNode?: string | undefined;
  readonly mqtt?: string | undefined;
  readonly api?: string | undefined;
  readonly openMetrics?: boolean | undefined;
  readonly data?: string | undefined;
  readonly registries?: Readonly<Record<string, WrittenRegistry>> | undefined;
  /** `NAME=URL` each, over `registries`; as a flag only. */
  readonly registry?: readonly string[] | undefined;
  readonly pinTags?: boolean | undefined;
  /** In the file only. */
  readonly hooks?: HookSettings | undefined;
  /** In the file only. */
  readonly trust?: WrittenTrust | undefined;
  readonly insecure?: boolean | undefined;
  readonly logLevel?: string | undefined;
}

const listenText = z.string().superRefine((text, context) => checked(context, () => parseListen(text)));
const brokerText = z
  .string()
  .superRefine((text, context) => checked(context, () => text === 'embedded' || parseBrokerUrl(text)));

const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export const hubSettingsSchema: z.ZodType<WrittenSettings> = z.strictObject({
  documents: z.string().min(1).optional(),
  kubernetes: z.boolean().optional(),
  kubeconfig: z.string().min(1).optional(),
  namespace: z.string().regex(NAMESPACE, 'expected the name of a namespace').optional(),
  broker: brokerText.optional(),
  brokerCa: z.string().min(1).optional(),
  brokerNode: z
    .string()
    .superRefine((text, context) => checked(context, () => parseNodeName(text)))
    .optional(),
  mqtt: listenText.optional(),
  api: listenText.optional(),
  openMetrics: z.boolean().optional(),
  data: z.string().min(1).optional(),
  registries: z
    .record(z.string(), z.strictObject({ url: z.string(), caFile: z.string().min(1).optional() }))
    .optional(),
  pinTags: z.boolean().optional(),
  hooks: hookSettings.optional(),
  trust: trustSettings.optional(),
  insecure: z.boolean().optional(),
  logLevel: z.enum(LOG_LEVELS.map(String)).optional(),
});

export const DEFAULTS = {
  broker: 'embedded',
  mqtt: '0.0.0.0:6183',
  api: '0.0.0.0:6190',
  data: '/var/lib/tidepool-hub',
  logLevel: 'info',
  namespace: 'kube-system',
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
    ...kubernetesOf({
      documents: of('documents'),
      kubernetes: of('kubernetes'),
      kubeconfig: of('kubeconfig'),
      namespace: of('namespace'),
    }),
    broker,
    ...(await brokerTrust(broker, {
      ca: of('brokerCa'),
      node: of('brokerNode'),
      insecure: of('insecure') ?? false,
    })),
    mqtt: parseListen(of('mqtt') ?? DEFAULTS.mqtt),
    api: parseListen(of('api') ?? DEFAULTS.api),
    openMetrics: of('openMetrics') ?? false,
    data: of('data') ?? DEFAULTS.data,
    registries: await registriesOf(written.registries ?? {}, flags.registry ?? []),
    // The flag only ever says no.
    pinTags: flags.pinTags !== false && written.pinTags !== false,
    ...(written.hooks === undefined ? {} : { hooks: written.hooks }),
    trust: trustOf(written.trust, of('namespace')),
    insecure: of('insecure') ?? false,
    logLevel: parseLevel(of('logLevel') ?? DEFAULTS.logLevel),
  });
}

function kubernetesOf(
  written: Pick<WrittenSettings, 'documents' | 'kubernetes' | 'kubeconfig' | 'namespace'>,
): Pick<HubSettings, 'kubernetes'> {
  const { documents, kubeconfig, namespace = DEFAULTS.namespace } = written;
  if (!NAMESPACE.test(namespace)) {
    throw new TidepoolError('INVALID_ARGUMENT', `not a namespace: ${quote(namespace)}`);
  }
  if (written.kubernetes === true && kubeconfig !== undefined) {
    const message = '--kubernetes is for a pod of the cluster, --kubeconfig for everywhere else; choose one';
    throw new TidepoolError('INVALID_ARGUMENT', message);
  }
  if (written.kubernetes !== true && kubeconfig === undefined) return {};
  if (documents !== undefined) {
    const message =
      'documents come from a directory or from Kubernetes, not from both: take --documents out, or --kubernetes and --kubeconfig';
    throw new TidepoolError('INVALID_ARGUMENT', message);
  }
  return { kubernetes: { kubeconfig, namespace } };
}

async function brokerTrust(
  broker: string,
  written: { readonly ca: string | undefined; readonly node: string | undefined; readonly insecure: boolean },
): Promise<Pick<HubSettings, 'brokerTrust'>> {
  const { ca: file, node, insecure } = written;
  const found = brokerTrustOf(
    {
      ca: file === undefined ? undefined : { file, pem: await readText(file) },
      node: node === undefined ? undefined : parseNodeName(node),
    },
    { urls: broker === 'embedded' ? [] : [broker], insecure },
    { ca: '--broker-ca', node: '--broker-node' },
  );
  return found === undefined ? {} : { brokerTrust: found };
}

/** Of the settings file and of `--registry NAME=URL` flags. @throws TidepoolError INVALID_ARGUMENT */
export async function registriesOf(
  written: Readonly<Record<string, WrittenRegistry>>,
  flags: readonly string[],
): Promise<NonNullable<HubSettings['registries']>> {
  const found: Record<string, { url: string; ca?: string }> = {};
  for (const [name, { url, caFile }] of Object.entries(written)) {
    found[name] = { url, ...(caFile === undefined ? {} : { ca: await readText(caFile) }) };
  }
  for (const flag of flags) {
    const [name = '', ...rest] = flag.split('=');
    if (name === '' || rest.length === 0) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `--registry: ${quote(flag)}; write it like registry.example=http://10.0.0.1:5000`,
      );
    }
    found[name] = { ...found[name], url: rest.join('=') };
  }
  return found;
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
    const message = `${file} cannot be read: ${describeError(error)}`;
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
