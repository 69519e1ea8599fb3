import * as z from 'zod';
import { describeError } from '../../shared/errors.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { isRegistryHost } from '../../shared/image-ref.ts';
import { parseJoinToken } from '../../shared/trust/join-token.ts';
import { duration } from '../../shared/wire/messages/fields.ts';
import { tuningSettings } from '../../shared/wire/messages/tuning.ts';
import { resolveTuning } from '../../shared/wire/tuning.ts';
import { checkNetwork, parseAddress, parseHostPort, parseMulticast } from './addresses.ts';

/** Of a unix socket's address on Linux. */
const MAX_SOCKET_CHARS = 107;

const via = <T>(parse: (text: string) => T) =>
  z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: describeError(error) });
      return z.NEVER;
    }
  });

const oneOrMany = <T extends z.ZodType>(item: T) =>
  z.union([item.transform((value) => [value]), z.array(item)]);

export const hostPort = via(parseHostPort);

export const registryUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol),
    'not a base URL; write it like https://registry.example or http://10.0.0.1:5000',
  )
  .refine((text) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    return url === undefined || (url.username === '' && url.password === '');
  }, 'an account does not stand here; it comes from the runtime with each pull')
  .refine(
    (text) => !/[?#]/.test(text),
    'a base URL ends with the host or a path: take out what follows ? or #',
  );

export const registryHost = z
  .string()
  .refine(isRegistryHost, 'not a registry host; write it like docker.io or registry.example:5000');

export const hubUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^mqtts?:$/.test(new URL(text).protocol) && new URL(text).hostname !== '',
    "not a broker's URL; write it like mqtt://hub.example:6183",
  );

const absolutePath = z.string().regex(/^\//, 'not an absolute path').max(4_096);

export const criSocket = z
  .string()
  .transform((text) => text.replace(/^unix:\/\//, ''))
  .refine(
    (text) => text === 'none' || (text.startsWith('/') && text.length <= MAX_SOCKET_CHARS),
    `not a socket's path of at most ${MAX_SOCKET_CHARS} characters; write it like /run/containerd/containerd.sock, or none`,
  );

export const containerdContent = z
  .string()
  .max(4_096)
  .refine(
    (text) => text === 'none' || text === 'auto' || text.startsWith('/'),
    "not a content store's path; write it like /var/lib/containerd/io.containerd.content.v1.content, or auto, or none",
  );

const tuning = tuningSettings.superRefine((settings, context) => {
  try {
    resolveTuning(settings);
  } catch (error) {
    context.addIssue({ code: 'custom', message: describeError(error) });
  }
});

export const enrollUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && new URL(text).protocol === 'https:' && new URL(text).pathname === '/',
    "not the hub's API; write it like https://hub.example:6190",
  );

export const joinToken = via((text) => {
  parseJoinToken(text);
  return text.trim();
});

/** How a node gets its certificate, and whom it believes. */
const trust = z.strictObject({
  join: joinToken.optional(),
  joinFile: z.string().min(1).optional(),
  saTokenFile: z.string().min(1).optional(),
  caFile: z.string().min(1).optional(),
  enrollUrl: enrollUrl.optional(),
  replace: z.boolean().optional(),
  grace: duration.optional(),
  beacon: z.boolean().optional(),
  beaconGroup: via(parseMulticast).optional(),
});

/** In containerd's hosts directory, beside what `containerd configure` keeps there. */
export const ORIGINS_FILE = '.tidepool/origins.json';
export const originsFile = z.object({
  version: z.literal(1),
  registries: z.record(
    registryHost,
    z.object({ url: registryUrl, ca: z.string().optional(), skipVerify: z.boolean().optional() }),
  ),
});

/** The agent's settings file. Everything is optional; `load-settings.ts` has the defaults. */
export const settingsFile = z.strictObject({
  node: via(parseNodeName).optional(),
  pool: via(parsePoolName).optional(),
  poolFromHub: z.boolean().optional(),
  address: via(parseAddress).optional(),
  data: z.string().min(1).optional(),
  mirror: hostPort.optional(),
  peerPort: z.number().int().min(0).max(65_535).optional(),
  ops: hostPort.optional(),
  hub: oneOrMany(hubUrl).optional(),
  hubCa: z.string().min(1).optional(),
  hubNode: via(parseNodeName).optional(),
  peers: z.array(hostPort).optional(),
  registries: z
    .record(
      registryHost,
      z.union([
        registryUrl.transform((url) => ({ url })),
        z.strictObject({
          url: registryUrl,
          caFile: z.string().min(1).optional(),
          skipVerify: z.boolean().optional(),
          realms: z.array(registryHost).max(16).optional(),
        }),
      ]),
    )
    .optional(),
  openRegistries: z.boolean().optional(),
  allowAddresses: z.array(via(checkNetwork)).max(64).optional(),
  defaultRegistry: registryHost.optional(),
  sourceAddress: via(parseAddress).optional(),
  /** File of `tidepool-hub pools bootstrap`. */
  bootstrap: z.string().min(1).optional(),
  tuning: tuning.optional(),
  runtime: z
    .strictObject({
      /** A path, or `none`. */
      criSocket: criSocket.optional(),
      /** A path, `auto` or `none`. */
      containerdContent: containerdContent.optional(),
      certsDir: absolutePath.optional(),
      hostRoot: absolutePath.optional(),
    })
    .optional(),
  originFallback: z.boolean().optional(),
  insecure: z.boolean().optional(),
  trust: trust.optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).optional(),
});
export type SettingsFile = z.infer<typeof settingsFile>;
