import type { z } from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseNodeName, parsePoolName, quote } from '../../shared/ids.ts';
import { LOG_LEVELS, type LogLevel } from '../../shared/log.ts';
import type { RegistrySettings } from '../settings.ts';
import { parseAddress, parseHostPort } from './addresses.ts';
import {
  containerdContent,
  criSocket,
  enrollUrl,
  hubUrl,
  joinToken,
  registryHost,
  registryUrl,
  type SettingsFile,
} from './schema.ts';

/** Flags of `run` as they were typed. */
export interface AgentFlags {
  readonly node?: string | undefined;
  readonly pool?: string | undefined;
  readonly poolFromHub?: boolean | undefined;
  readonly address?: string | undefined;
  readonly data?: string | undefined;
  readonly mirror?: string | undefined;
  readonly peerPort?: string | undefined;
  readonly ops?: string | undefined;
  readonly hub?: readonly string[] | undefined;
  readonly hubCa?: string | undefined;
  readonly hubNode?: string | undefined;
  readonly peers?: string | undefined;
  readonly registry?: readonly string[] | undefined;
  readonly defaultRegistry?: string | undefined;
  readonly sourceAddress?: string | undefined;
  readonly bootstrap?: string | undefined;
  readonly cri?: string | undefined;
  readonly containerdContent?: string | undefined;
  readonly insecure?: boolean | undefined;
  readonly join?: string | undefined;
  readonly joinFile?: string | undefined;
  readonly saToken?: string | undefined;
  readonly ca?: string | undefined;
  readonly enrollUrl?: string | undefined;
  readonly replace?: boolean | undefined;
  readonly logLevel?: string | undefined;
}

/**
 * The same fields as the settings file, for each flag given.
 * @throws TidepoolError INVALID_CONFIG, naming the flag
 */
export function parseFlags(flags: AgentFlags): SettingsFile {
  return {
    ...given('--node', flags.node, (text) => ({ node: parseNodeName(text) })),
    ...given('--pool', flags.pool, (text) => ({ pool: parsePoolName(text) })),
    ...given('--address', flags.address, (text) => ({ address: parseAddress(text) })),
    ...given('--data', flags.data, (text) => ({ data: text })),
    ...given('--mirror', flags.mirror, (text) => ({ mirror: parseHostPort(text) })),
    ...given('--peer-port', flags.peerPort, (text) => ({ peerPort: parsePort(text) })),
    ...given('--ops', flags.ops, (text) => ({ ops: parseHostPort(text) })),
    ...given('--hub', flags.hub, (urls) => ({ hub: urls.map((url) => check(hubUrl, url)) })),
    ...given('--hub-ca', flags.hubCa, (text) => ({ hubCa: text })),
    ...given('--hub-node', flags.hubNode, (text) => ({ hubNode: parseNodeName(text) })),
    ...given('--peers', flags.peers, (text) => ({ peers: parsePeers(text) })),
    ...given('--registry', flags.registry, (list) => ({
      registries: Object.fromEntries(list.map(parseRegistry)),
    })),
    ...given('--default-registry', flags.defaultRegistry, (text) => ({
      defaultRegistry: check(registryHost, text),
    })),
    ...given('--bootstrap', flags.bootstrap, (text) => ({ bootstrap: text })),
    ...given('--source-address', flags.sourceAddress, (text) => ({ sourceAddress: parseAddress(text) })),
    ...runtimeOf(flags),
    ...given('--log-level', flags.logLevel, (text) => ({ logLevel: parseLogLevel(text) })),
    ...(flags.poolFromHub === undefined ? {} : { poolFromHub: flags.poolFromHub }),
    ...(flags.insecure === undefined ? {} : { insecure: flags.insecure }),
    ...trustOf(flags),
  };
}

function runtimeOf(flags: AgentFlags): Pick<SettingsFile, 'runtime'> {
  const runtime = {
    ...given('--cri', flags.cri, (text) => ({ criSocket: check(criSocket, text) })),
    ...given('--containerd-content', flags.containerdContent, (text) => ({
      containerdContent: check(containerdContent, text),
    })),
  };
  return Object.keys(runtime).length === 0 ? {} : { runtime };
}

function trustOf(flags: AgentFlags): Pick<SettingsFile, 'trust'> {
  const trust = {
    ...given('--join', flags.join, (text) => ({ join: checkSecret(joinToken, text) })),
    ...given('--join-file', flags.joinFile, (text) => ({ joinFile: text })),
    ...given('--sa-token', flags.saToken, (text) => ({ saTokenFile: text })),
    ...given('--ca', flags.ca, (text) => ({ caFile: text })),
    ...given('--enroll-url', flags.enrollUrl, (text) => ({ enrollUrl: check(enrollUrl, text) })),
    ...(flags.replace === undefined ? {} : { replace: flags.replace }),
  };
  return Object.keys(trust).length === 0 ? {} : { trust };
}

/** `HOST=URL` */
export function parseRegistry(text: string): [string, RegistrySettings] {
  const at = text.indexOf('=');
  if (at <= 0) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a registry: ${quote(text)}; write it like registry.example=https://10.0.0.1:5000`,
    );
  }
  return [check(registryHost, text.slice(0, at)), { url: check(registryUrl, text.slice(at + 1)) }];
}

function parsePeers(text: string) {
  return text
    .split(',')
    .filter((item) => item.trim() !== '')
    .map(parseHostPort);
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new TidepoolError('INVALID_ARGUMENT', `not a port: ${quote(text)}`);
  return port;
}

function parseLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text);
  if (level !== undefined) return level;
  throw new TidepoolError('INVALID_ARGUMENT', `not a log level: ${quote(text)}; ${LOG_LEVELS.join(', ')}`);
}

function check<T>(schema: z.ZodType<T>, text: string): T {
  const result = schema.safeParse(text);
  if (result.success) return result.data;
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `${quote(text)}: ${result.error.issues[0]?.message ?? 'invalid'}`,
  );
}

/** As {@link check}, without repeating what was given. */
function checkSecret<T>(schema: z.ZodType<T>, text: string): T {
  const result = schema.safeParse(text);
  if (result.success) return result.data;
  throw new TidepoolError('INVALID_ARGUMENT', result.error.issues[0]?.message ?? 'invalid');
}

function given<V, T extends object>(flag: string, value: V | undefined, parse: (value: V) => T): T | object {
  if (value === undefined) return {};
  try {
    return parse(value);
  } catch (error) {
    throw new TidepoolError('INVALID_CONFIG', `${flag}: ${describeError(error)}`, { cause: error });
  }
}
