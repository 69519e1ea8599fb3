import { existsSync, readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../shared/config-file.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { lonePool, type PoolName, parseNodeName, parsePoolName, quote } from '../../shared/ids.ts';
import { brokerTrustOf } from '../../shared/mqtt/broker-trust.ts';
import type { AgentSettings, HostPort } from '../settings.ts';
import { type Interfaces, onlyAddress } from './addresses.ts';
import { type AgentFlags, parseFlags } from './flags.ts';
import { ORIGINS_FILE, originsFile, type SettingsFile, settingsFile } from './schema.ts';
import { mergeTrust, trustSettings } from './trust-settings.ts';

/** What settings take from the machine; tests give their own. */
export interface Machine {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readFile(path: string): string;
  /** Undefined where there is no such file. */
  readIfThere?(path: string): string | undefined;
  hostname(): string;
  networkInterfaces(): Interfaces;
}

export const thisMachine: Machine = {
  environment: process.env,
  readFile: (path) => readFileSync(path, 'utf8'),
  readIfThere: (path) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined),
  hostname,
  networkInterfaces,
};

/**
 * Where runtimes send the accounts that they pull with, so no other user of the node may listen there while the agent is
 * down. https with an authority of the node's own would do as well and costs 2.7 × the processor time a byte.
 */
const DEFAULT_MIRROR: HostPort = { host: '127.0.0.1', port: 618 };
/** With `--insecure`: needs no right that an experiment may not have. */
const INSECURE_MIRROR: HostPort = { host: '127.0.0.1', port: 6180 };
export const DEFAULT_OPS: HostPort = { host: '127.0.0.1', port: 6182 };
export const DEFAULT_PEER_PORT = 6181;
const DEFAULT_CERTS_DIR = '/etc/containerd/certs.d';
const DEFAULT_CRI_SOCKET = '/run/containerd/containerd.sock';
const DEFAULT_DATA = '/var/lib/tidepool';
/** Where the settings file is when no flag says so. */
const CONFIG_VARIABLE = 'TIDEPOOL_CONFIG';

/**
 * One file, flags over it, defaults beneath. The answer is frozen.
 * @param configFile path given by `--config`
 * @throws TidepoolError INVALID_CONFIG, with the file's line or the flag's name
 */
export function loadSettings(
  flags: AgentFlags,
  configFile: string | undefined,
  machine: Machine = thisMachine,
): AgentSettings {
  const file = readSettingsFile(configFile, machine);
  const over = parseFlags(flags);
  const { node, pool, address, registries, openRegistries, sourceAddress, runtime, ...merged } = {
    ...file,
    ...over,
    registries: { ...file.registries, ...over.registries },
    runtime: { ...file.runtime, ...over.runtime },
    trust: mergeTrust(file.trust, over.trust),
  };
  const {
    containerdContent = 'none',
    criSocket = DEFAULT_CRI_SOCKET,
    certsDir = DEFAULT_CERTS_DIR,
    hostRoot = '/',
  } = runtime;
  const name = node ?? defaultNode(machine);
  const here = address ?? onlyAddress(machine.networkInterfaces());
  const { data = DEFAULT_DATA, poolFromHub = false } = merged;
  return deepFreeze({
    node: name,
    pool: poolFromHub
      ? (rememberedPool(data, machine) ?? pool ?? lonePool(name))
      : (pool ?? parsePoolName('default')),
    poolFromHub,
    address: here,
    data,
    mirror: merged.mirror ?? defaultMirror(merged.insecure),
    peerPort: merged.peerPort ?? DEFAULT_PEER_PORT,
    ops: merged.ops ?? DEFAULT_OPS,
    hub: merged.hub ?? [],
    ...hubTrust(merged, machine),
    peers: merged.peers ?? [],
    // What this node's owner set for the agent goes over what stood in containerd's directory.
    registries: {
      ...readOrigins(join(hostRoot, certsDir, ORIGINS_FILE), machine),
      ...cleanRegistries(registries),
    },
    openRegistries: openRegistries ?? Object.keys(registries).length === 0,
    allowAddresses: merged.allowAddresses ?? [],
    defaultRegistry: merged.defaultRegistry ?? 'docker.io',
    tuning: merged.tuning ?? {},
    runtime: {
      criSocket: criSocket === 'none' ? null : criSocket,
      containerdContent: containerdContent === 'none' ? null : containerdContent,
      certsDir,
      hostRoot,
    },
    originFallback: merged.originFallback ?? true,
    insecure: merged.insecure ?? false,
    trust: trustSettings(merged.trust, { hub: merged.hub ?? [], address: here }),
    logLevel: merged.logLevel ?? 'info',
    ...(sourceAddress === undefined ? {} : { sourceAddress }),
    ...(merged.bootstrap === undefined ? {} : { bootstrap: merged.bootstrap }),
  });
}

/** Where a running agent answers: by flag, by the settings file, else the default. */
export function opsAddress(
  flag: string | undefined,
  configFile: string | undefined,
  machine: Machine = thisMachine,
): HostPort {
  const { ops } = parseFlags({ ops: flag });
  return ops ?? readSettingsFile(configFile, machine).ops ?? DEFAULT_OPS;
}

/** Where a running agent keeps its data: by flag, by the settings file, else the default. */
export function dataDirectory(
  flag: string | undefined,
  configFile: string | undefined,
  machine: Machine = thisMachine,
): { readonly path: string; readonly chosen: boolean } {
  const path = flag ?? readSettingsFile(configFile, machine).data;
  return { path: path ?? DEFAULT_DATA, chosen: path !== undefined };
}

function hubTrust(
  { hub, hubCa, hubNode, insecure }: SettingsFile,
  machine: Machine,
): Pick<AgentSettings, 'hubTrust'> {
  const found = brokerTrustOf(
    { ca: hubCa === undefined ? undefined : { file: hubCa, pem: readCa(hubCa, machine) }, node: hubNode },
    { urls: hub ?? [], insecure: insecure ?? false },
    { ca: '--hub-ca', node: '--hub-node' },
  );
  return found === undefined ? {} : { hubTrust: found };
}

function readCa(file: string, machine: Machine): string {
  try {
    return machine.readFile(file);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `--hub-ca: cannot read ${quote(file)}: ${describeError(error)}`,
      { cause: error },
    );
  }
}

function defaultMirror(insecure: boolean | undefined): HostPort {
  return insecure === true ? INSECURE_MIRROR : DEFAULT_MIRROR;
}

/** What `containerd configure` takes from the agent's settings, where there is a file. */
export function containerdSettings(
  configFile: string | undefined,
  machine: Machine = thisMachine,
  flags: { readonly insecure?: boolean | undefined } = {},
): Pick<AgentSettings, 'mirror' | 'originFallback'> &
  Pick<AgentSettings['runtime'], 'certsDir' | 'hostRoot'> & { readonly mirrorChosen: boolean } {
  const { insecure, mirror, originFallback, runtime } = readSettingsFile(configFile, machine);
  return {
    mirror: mirror ?? defaultMirror(flags.insecure ?? insecure),
    // Nothing said where the mirror is or which of the two defaults counts: a running agent knows.
    mirrorChosen: mirror !== undefined || insecure !== undefined || flags.insecure !== undefined,
    originFallback: originFallback ?? true,
    certsDir: runtime?.certsDir ?? DEFAULT_CERTS_DIR,
    hostRoot: runtime?.hostRoot ?? '/',
  };
}

function readSettingsFile(path: string | undefined, machine: Machine): SettingsFile {
  const file = path ?? machine.environment[CONFIG_VARIABLE];
  if (file === undefined || file === '') return {};
  let text: string;
  try {
    text = machine.readFile(file);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `cannot read the settings file ${quote(file)}: ${describeError(error)}`,
      { cause: error },
    );
  }
  return loadConfig(settingsFile, text, file);
}

/** Registries that `containerd configure` found in containerd's hosts directory. */
function readOrigins(path: string, machine: Machine): AgentSettings['registries'] {
  const text = machine.readIfThere?.(path);
  if (text === undefined) return {};
  try {
    return cleanRegistries(originsFile.parse(JSON.parse(text)).registries);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `${quote(path)} is no list of registries (${describeError(error).slice(0, 500)}); tidepool-agent containerd configure writes it anew`,
      { cause: error },
    );
  }
}

/** In the data directory: the pool that the hub said last. */
export const POOL_FILE = 'pool';

/** A file that is damaged counts as none: the hub says it again. */
function rememberedPool(data: string, machine: Machine): PoolName | undefined {
  const text = machine.readIfThere?.(join(data, POOL_FILE))?.trim() ?? '';
  try {
    return text === '' ? undefined : parsePoolName(text);
  } catch {
    return undefined;
  }
}

function defaultNode(machine: Machine) {
  const name = machine.hostname().toLowerCase();
  try {
    return parseNodeName(name);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `this host's name ${quote(name)} cannot be a node's name; give one with --node`,
      { cause: error },
    );
  }
}

/** Without keys that say undefined: the settings type has none. */
function cleanRegistries(registries: Readonly<Record<string, RegistryEntry>>): AgentSettings['registries'] {
  return Object.fromEntries(
    Object.entries(registries).map(([host, { url, caFile, ca, skipVerify, realms }]) => [
      host,
      {
        url,
        ...(caFile === undefined ? {} : { caFile }),
        ...(ca === undefined ? {} : { ca }),
        ...(skipVerify === undefined ? {} : { skipVerify }),
        ...(realms === undefined ? {} : { realms }),
      },
    ]),
  );
}

interface RegistryEntry {
  readonly url: string;
  readonly caFile?: string | undefined;
  readonly ca?: string | undefined;
  readonly skipVerify?: boolean | undefined;
  readonly realms?: readonly string[] | undefined;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
