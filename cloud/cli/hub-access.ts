/** How commands find the hub, know that it is the hub, and say who asks: options that all of them share. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { parseKeyId, readRoots } from '../../shared/trust/certificate.ts';
import { DEFAULTS } from '../config/settings.ts';
import { HubClient, type HubTrust } from './hub-client.ts';
import type { CliIo } from './io.ts';

const PORT = 6190;
/** What a hub keeps in its data for commands on its own machine. */
const ADMIN_TOKEN = 'admin-token';
const AUTHORITY = 'trust/ca.pem';
const MAX_TOKEN_CHARS = 8_192;

export interface HubFlags {
  readonly hub?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly caHash?: string;
  readonly data?: string;
  readonly insecure?: true;
}

export function withHub(command: Command): Command {
  return command
    .option('--hub <url>', `the hub's API (default: https://127.0.0.1:${PORT})`)
    .option('--token <token>', 'who asks; a token of `tidepool-hub api-token create` (or TIDEPOOL_TOKEN)')
    .option('--token-file <file>', `the same from a file (default: ${ADMIN_TOKEN} in --data)`)
    .option(
      '--ca <file>',
      `the authority that has signed the hub's certificate (default: ${AUTHORITY} in --data)`,
    )
    .option('--ca-hash <hash>', 'the same by its hash, as join tokens carry it')
    .option('--data <dir>', `of a hub on this machine (default: ${DEFAULTS.data})`)
    .option('--insecure', 'a plain http:// address, where nothing is secret and anybody may be the hub');
}

/** @throws TidepoolError INVALID_ARGUMENT, also for files that are missing */
export function hubClient(flags: HubFlags, io: Pick<CliIo, 'signal'>, env = process.env): HubClient {
  const insecure = flags.insecure === true;
  const url = flags.hub ?? `${insecure ? 'http' : 'https'}://127.0.0.1:${PORT}`;
  if (URL.canParse(url) && new URL(url).protocol === 'http:' && !insecure) {
    throw wrong(
      `${quote(url)} is a plain address: whoever is on the way reads and changes what is said. Write https://, or say --insecure`,
    );
  }
  if (!URL.canParse(url) || new URL(url).protocol !== 'https:') {
    const token = givenToken(flags, env);
    return new HubClient({ url, signal: io.signal, insecure, ...(token === undefined ? {} : { token }) });
  }
  const trust = trustOf(flags);
  // The token of this machine's hub is for that hub: where another one is named, it stays here.
  const local = flags.ca === undefined && flags.caHash === undefined;
  const token = givenToken(flags, env) ?? (local ? localToken(flags) : undefined);
  return new HubClient({ url, signal: io.signal, trust, ...(token === undefined ? {} : { token }) });
}

function trustOf(flags: HubFlags): HubTrust {
  if (flags.caHash !== undefined) return { keyId: parseKeyId(flags.caHash.replace(/^sha256:/, '')) };
  const file = flags.ca ?? path.join(flags.data ?? DEFAULTS.data, AUTHORITY);
  let pem: string;
  try {
    pem = readFileSync(file, 'utf8');
  } catch (error) {
    throw wrong(
      `nothing says which hub is the right one: ${file} cannot be read: ${describeError(error)}. Name the authority's certificate (--ca FILE), its hash (--ca-hash), or the data of a hub on this machine (--data DIR)`,
      error,
    );
  }
  return { roots: readRoots(pem) };
}

function givenToken(flags: HubFlags, env: NodeJS.ProcessEnv): string | undefined {
  if (flags.token !== undefined) return checked(flags.token, '--token');
  if (flags.tokenFile !== undefined) return checked(readText(flags.tokenFile), flags.tokenFile);
  const { TIDEPOOL_TOKEN: fromEnv } = env;
  return fromEnv === undefined || fromEnv === '' ? undefined : checked(fromEnv, 'TIDEPOOL_TOKEN');
}

/** Undefined where there is none, or it is not for this user: the hub says then what it wants. */
function localToken({ data = DEFAULTS.data }: HubFlags): string | undefined {
  const file = path.join(data, ADMIN_TOKEN);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  return checked(text, file);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw wrong(`the token in ${file} cannot be read: ${describeError(error)}`, error);
  }
}

/** Never repeats what was given. */
function checked(text: string, where: string): string {
  const token = text.trim();
  if (token.length > 0 && token.length <= MAX_TOKEN_CHARS && /^[\x21-\x7e]+$/.test(token)) return token;
  throw wrong(`${where}: not a token: expected one word of at most ${MAX_TOKEN_CHARS} characters`);
}

function wrong(message: string, cause?: unknown): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', message, { cause });
}
