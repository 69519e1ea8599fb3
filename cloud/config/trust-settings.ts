/** Settings of the hub's authority and of who is let in. */
import * as z from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseDuration } from '../../shared/units.ts';

const DAY_MS = 86_400_000;
/** Renewal takes some hours where an uplink is bad, and looks at the clock once an hour. */
const SHORTEST_LIFETIME_MS = 3_600_000;
const LONGEST_LIFETIME_MS = 825 * DAY_MS;
const MAX_LIST = 100;

const ACCOUNT = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

const durationBetween = (least: number, most: number) =>
  z.string().superRefine((text, context) => {
    try {
      const ms = parseDuration(text);
      if (ms < least || ms > most)
        throw new TidepoolError('INVALID_CONFIG', `${text} is not between ${least} and ${most} ms`);
    } catch (error) {
      context.addIssue({ code: 'custom', message: describeError(error) });
    }
  });

export const trustSettings = z.strictObject({
  /** An authority that somebody else makes: cert-manager's `tls.crt` and `tls.key`. Both or none. */
  caCert: z.string().min(1).optional(),
  caKey: z.string().min(1).optional(),
  /** PEM file of roots that are trusted besides: the one before, or the next. */
  roots: z.string().min(1).optional(),
  /** Names and addresses that the hub is called by, for its own certificate. */
  hosts: z.array(z.string().min(1).max(253)).max(MAX_LIST).optional(),
  certificateLifetime: durationBetween(SHORTEST_LIFETIME_MS, LONGEST_LIFETIME_MS).optional(),
  /** How long past its end a certificate may still be renewed. */
  grace: durationBetween(0, LONGEST_LIFETIME_MS).optional(),
  /** Of projected ServiceAccount tokens. */
  audience: z.string().min(1).max(253).optional(),
  /** `namespace/name` of the ServiceAccounts whose pods may enrol their nodes. */
  serviceAccounts: z
    .array(z.string().regex(ACCOUNT, 'expected namespace/name of a ServiceAccount'))
    .max(MAX_LIST)
    .optional(),
  /** Where the authority and the book of nodes are kept, in Kubernetes: Secrets of this name, and with -book behind it. */
  secret: z.string().regex(NAME, 'expected the name of a Secret').optional(),
  /** In Kubernetes: a ConfigMap that the hub keeps the roots in, as `ca.pem`, for pods that enrol their nodes. */
  rootsConfigMap: z.string().regex(NAME, 'expected the name of a ConfigMap').optional(),
});
export type WrittenTrust = z.infer<typeof trustSettings>;

export interface TrustSettings {
  readonly external: { readonly cert: string; readonly key: string } | undefined;
  readonly roots: string | undefined;
  readonly hosts: readonly string[];
  readonly lifetimeMs: number;
  readonly graceMs: number;
  readonly audience: string;
  readonly serviceAccounts: readonly string[];
  readonly secret: string;
  /** Undefined: none is written. */
  readonly rootsConfigMap?: string;
}

const LOCAL = ['localhost', '127.0.0.1'];

/** @throws TidepoolError INVALID_CONFIG */
export function trustOf(written: WrittenTrust = {}, namespace = 'kube-system'): TrustSettings {
  const { caCert, caKey } = written;
  if ((caCert === undefined) !== (caKey === undefined)) {
    const message =
      'trust.caCert and trust.caKey belong together: the certificate of an authority and its key';
    throw new TidepoolError('INVALID_CONFIG', message);
  }
  if (written.roots !== undefined && caCert === undefined) {
    const message =
      'trust.roots goes with trust.caCert: the roots of an authority of its own the hub keeps itself';
    throw new TidepoolError('INVALID_CONFIG', message);
  }
  return {
    external: caCert === undefined || caKey === undefined ? undefined : { cert: caCert, key: caKey },
    roots: written.roots,
    hosts: [...new Set([...(written.hosts ?? []), ...LOCAL])],
    lifetimeMs: parseDuration(written.certificateLifetime ?? '90d'),
    graceMs: parseDuration(written.grace ?? '30d'),
    audience: written.audience ?? 'tidepool-hub',
    serviceAccounts: written.serviceAccounts ?? [`${namespace}/tidepool-agent`],
    secret: written.secret ?? 'tidepool-hub-trust',
    ...(written.rootsConfigMap === undefined ? {} : { rootsConfigMap: written.rootsConfigMap }),
  };
}
