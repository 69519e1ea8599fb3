import type { Clock } from '../../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../../shared/errors.ts';
import { raceAbort } from '../../../shared/flow/single-flight.ts';
import type { RegistryOrigin } from '../../origin/types.ts';
import type { Members } from '../../peers/members.ts';
import type { PeerClient } from '../../peers/types.ts';
import { askAll, within } from '../ask-all.ts';
import { ASK_WAIT_MS, HEARSAY_AFTER_MS } from '../constants.ts';
import type { ContentRequest } from '../types.ts';
import { ACCESS_WAIT_MS } from './constants.ts';
import type { ContentScope } from './content-scope.ts';
import type { Subject } from './repository-gate.ts';

interface QuestionComponents {
  readonly scope: Pick<ContentScope, 'get' | 'addBlob'>;
  readonly origin: Pick<RegistryOrigin, 'manifest' | 'blobSize' | 'passThrough'>;
  readonly client: Pick<PeerClient, 'access'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly clock: Clock;
}

/**
 * Asks a registry whether it gives the subject to this request's credentials, or to none: one HEAD. The wait is bounded, and
 * ends sooner when as many neighbours as may move a tag say that they cannot reach it either.
 * @throws TidepoolError what the registry says; ORIGIN_UNREACHABLE, ORIGIN_ERROR or TIMEOUT when it says nothing
 */
export function askRegistry(
  components: QuestionComponents,
  request: ContentRequest,
  subject: Subject,
  quorum: number,
): Promise<void> {
  const { clock } = components;
  return within(clock, ACCESS_WAIT_MS, request.signal, async (signal) => {
    const told = new AbortController();
    const onAbort = (): void => told.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const cancel = clock.after(HEARSAY_AFTER_MS, () => {
      hearsay(components, request, quorum, told.signal).then(
        (error) => {
          if (error !== undefined) told.abort(error);
        },
        () => undefined,
      );
    });
    try {
      await raceAbort(ask(components, { ...request, signal: told.signal }, subject), told.signal);
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
  });
}

async function ask(
  { origin, scope }: QuestionComponents,
  request: ContentRequest,
  subject: Subject,
): Promise<void> {
  const exact = { ...request, exact: true };
  const { digest, kind } = subject;
  const manifest = kind === 'manifest' ? digest : scope.get(request, digest)?.via;
  try {
    if (manifest !== undefined) {
      await origin.manifest({ ...exact, reference: manifest, method: 'HEAD' });
      return;
    }
    const size = await origin.blobSize({ ...exact, digest });
    scope.addBlob(request, digest, size);
  } catch (error) {
    const gone =
      isTidepoolError(error, 'MANIFEST_UNKNOWN') ||
      isTidepoolError(error, 'BLOB_UNKNOWN') ||
      isTidepoolError(error, 'NAME_UNKNOWN');
    if (!gone) throw error;
    // Deleted there, or hidden from this account: the repository itself tells which.
    const { status } = await origin.passThrough({ ...exact, path: 'tags/list', query: 'n=1', method: 'GET' });
    if (status !== 200) throw error;
  }
}

/** Why the registry need not be waited for, when enough neighbours say so. */
async function hearsay(
  components: QuestionComponents,
  { registry, repository }: ContentRequest,
  quorum: number,
  signal: AbortSignal,
): Promise<TidepoolError | undefined> {
  let told = 0;
  const answers = await askAll(components, components.members.live(), ASK_WAIT_MS, signal, {
    ask: (member, inner) => components.client.access(member, { registry, repository }, inner),
    enough: ({ downSince }) => downSince !== undefined && ++told >= quorum,
  });
  const nodes = answers.filter(({ value }) => value.downSince !== undefined).map(({ member }) => member.node);
  if (nodes.length < quorum) return undefined;
  return new TidepoolError(
    'ORIGIN_UNREACHABLE',
    `${registry} has not answered here, and ${nodes.join(', ')} cannot reach it either`,
  );
}
