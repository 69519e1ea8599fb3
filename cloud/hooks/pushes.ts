/** What registries say of pushes, in the words of each. */
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { type Digest, isDigest, quote } from '../../shared/ids.ts';
import { MAX_EVENTS } from './constants.ts';

/** A tag that now names a manifest. */
export interface Push {
  /** Host as the registry knows itself; undefined where it does not say. */
  readonly host: string | undefined;
  readonly repository: string;
  readonly tag: string;
  readonly digest: Digest;
  /** Wall clock of the registry, ms; undefined where it does not say. */
  readonly at: number | undefined;
}

/** An event that is no push of a tag, and why. */
export interface Ignored {
  readonly what: string;
  readonly reason: string;
}

export interface ReadPushes {
  readonly pushes: readonly Push[];
  readonly ignored: readonly Ignored[];
}

const MANIFEST_TYPES: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);

/** CNCF distribution, `notifications`: an envelope of events. */
const envelope = z.looseObject({
  events: z
    .array(
      z.looseObject({
        action: z.string(),
        timestamp: z.string().optional(),
        target: z
          .looseObject({
            mediaType: z.string().optional(),
            repository: z.string().optional(),
            tag: z.string().optional(),
            digest: z.string().optional(),
          })
          .optional(),
        request: z.looseObject({ host: z.string().optional() }).optional(),
      }),
    )
    .max(MAX_EVENTS),
});

const harborData = z.looseObject({
  resources: z
    .array(
      z.looseObject({
        digest: z.string().optional(),
        tag: z.string().optional(),
        resource_url: z.string().optional(),
      }),
    )
    .max(MAX_EVENTS)
    .default([]),
  repository: z.looseObject({ repo_full_name: z.string() }),
});
/** Harbor's payload format `Default`. */
const harbor = z.looseObject({
  type: z.string(),
  occur_at: z.number().optional(),
  event_data: harborData,
});
/** Harbor's payload format `CloudEvents`. */
const harborCloudEvent = z.looseObject({
  specversion: z.string(),
  type: z.string().startsWith('harbor.'),
  time: z.string().optional(),
  data: harborData,
});

/**
 * Tags that a notification tells of. Blobs, manifests without a tag and everything that is not pushed is left out with
 * the reason: a registry sends all of that, and takes a refusal for a reason to send it again.
 * @throws TidepoolError INVALID_ARGUMENT for a body that is no notification
 */
export function readPushes(body: unknown): ReadPushes {
  const distribution = envelope.safeParse(body);
  if (distribution.success) return fromDistribution(distribution.data);
  const cloudEvent = harborCloudEvent.safeParse(body);
  if (cloudEvent.success) {
    const { type, time, data } = cloudEvent.data;
    return fromHarbor(type, type === 'harbor.artifact.pushed', parseTime(time), data);
  }
  const event = harbor.safeParse(body);
  if (event.success) {
    const { type, occur_at: seconds, event_data: data } = event.data;
    return fromHarbor(
      type,
      type === 'PUSH_ARTIFACT',
      seconds === undefined ? undefined : seconds * 1000,
      data,
    );
  }
  const issue = (hasKey(body, 'events') ? distribution : event).error?.issues[0];
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `neither a notification of a distribution registry nor one of Harbor: ${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`,
  );
}

function fromDistribution({ events }: z.infer<typeof envelope>): ReadPushes {
  const pushes: Push[] = [];
  const ignored: Ignored[] = [];
  for (const { action, timestamp, target = {}, request } of events) {
    const { repository = '', tag, digest = '', mediaType = '' } = target;
    const what = `${action} ${repository}${tag === undefined ? '' : `:${tag}`}${digest === '' ? '' : `@${digest}`}`;
    const no = (reason: string): number => ignored.push({ what: quote(what, 200), reason });
    if (action !== 'push') no('not a push');
    else if (!MANIFEST_TYPES.has(mediaType)) no('not an image manifest or index');
    else if (tag === undefined || tag === '') no('pushed without a tag');
    else if (!isDigest(digest)) no('its digest is not sha256');
    else pushes.push({ host: request?.host || undefined, repository, tag, digest, at: parseTime(timestamp) });
  }
  return { pushes, ignored };
}

function fromHarbor(
  type: string,
  isPush: boolean,
  at: number | undefined,
  { resources, repository: { repo_full_name: repository } }: z.infer<typeof harborData>,
): ReadPushes {
  if (!isPush)
    return { pushes: [], ignored: [{ what: quote(`${type} ${repository}`, 200), reason: 'not a push' }] };
  const pushes: Push[] = [];
  const ignored: Ignored[] = [];
  for (const { tag, digest = '', resource_url: url = '' } of resources) {
    const what = quote(`${type} ${repository}:${tag ?? ''}@${digest}`, 200);
    // Pushed by digest, Harbor gives the digest for a tag.
    if (tag === undefined || tag === '' || tag.includes(':'))
      ignored.push({ what, reason: 'pushed without a tag' });
    else if (!isDigest(digest)) ignored.push({ what, reason: 'its digest is not sha256' });
    else pushes.push({ host: hostOf(url, repository), repository, tag, digest, at });
  }
  return { pushes, ignored };
}

/** What stands before the repository: `harbor.example/team/web:1`. */
function hostOf(url: string, repository: string): string | undefined {
  const bare = url.replace(/^https?:\/\//, '');
  const at = bare.indexOf(`/${repository}`);
  return at > 0 ? bare.slice(0, at) : undefined;
}

function parseTime(text: string | undefined): number | undefined {
  const time = Date.parse(text ?? '');
  return Number.isNaN(time) ? undefined : time;
}

function hasKey(body: unknown, key: string): boolean {
  return typeof body === 'object' && body !== null && key in body;
}
