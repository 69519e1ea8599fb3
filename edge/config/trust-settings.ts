import { TidepoolError } from '../../shared/errors.ts';
import type { HostPort, TrustSettings } from '../settings.ts';
import { isLoopback } from './addresses.ts';
import type { SettingsFile } from './schema.ts';

const DEFAULT_GRACE_MS = 30 * 24 * 60 * 60_000;
const DEFAULT_BEACON: HostPort = { host: '239.255.61.81', port: 6184 };
const HUB_API_PORT = 6190;

type TrustFile = NonNullable<SettingsFile['trust']>;

/** A credential by flag takes the place of one in the file, of whatever kind. */
export function mergeTrust(file: TrustFile = {}, over: TrustFile = {}): TrustFile {
  const { join, joinFile, saTokenFile, ...rest } = file;
  const isGiven = [over.join, over.joinFile, over.saTokenFile].some((each) => each !== undefined);
  return isGiven ? { ...rest, ...over } : { ...file, ...over };
}

/** @throws TidepoolError INVALID_CONFIG for several credentials, or a ServiceAccount's without an authority */
export function trustSettings(
  trust: TrustFile,
  { hub, address }: { readonly hub: readonly string[]; readonly address: string },
): TrustSettings {
  const { enrollUrl = enrollUrlOf(hub), replace = false, grace = DEFAULT_GRACE_MS } = trust;
  const credential = credentialOf(trust);
  // On loopback there are no neighbours to find, and its interface takes no multicast by default.
  const beacon = trust.beacon ?? !isLoopback(address);
  return {
    replace,
    graceMs: grace,
    ...(enrollUrl === undefined ? {} : { enrollUrl }),
    ...(credential === undefined ? {} : { credential }),
    ...(beacon ? { beacon: trust.beaconGroup ?? DEFAULT_BEACON } : {}),
  };
}

/** The hub's API is on the host of its broker where nothing else is said. */
function enrollUrlOf([first]: readonly string[]): string | undefined {
  return first === undefined ? undefined : `https://${new URL(first).hostname}:${HUB_API_PORT}`;
}

function credentialOf({
  join: token,
  joinFile,
  saTokenFile,
  caFile,
}: TrustFile): TrustSettings['credential'] {
  const given = [token, joinFile, saTokenFile].filter((each) => each !== undefined).length;
  if (given > 1) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      'a node is enrolled by one credential: give --join, --join-file or --sa-token',
    );
  }
  if (token !== undefined) return { kind: 'token', token };
  if (joinFile !== undefined) return { kind: 'token-file', file: joinFile };
  if (saTokenFile === undefined) return undefined;
  if (caFile !== undefined) return { kind: 'service-account', tokenFile: saTokenFile, caFile };
  throw new TidepoolError(
    'INVALID_CONFIG',
    "--sa-token: say with --ca by which authority the hub is known (tidepool-hub's ca.pem): the token is given to nobody else",
  );
}
