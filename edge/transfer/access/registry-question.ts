import { isTidepoolError } from '../../../shared/errors.ts';
import type { RegistryOrigin } from '../../origin/types.ts';
import type { ContentRequest } from '../types.ts';
import type { ContentScope } from './content-scope.ts';
import type { Subject } from './repository-gate.ts';

interface QuestionComponents {
  readonly scope: Pick<ContentScope, 'get' | 'addBlob'>;
  readonly origin: Pick<RegistryOrigin, 'manifest' | 'blobSize' | 'passThrough'>;
}

/**
 * Asks a registry whether it gives the subject to this request's credentials, or to none: one HEAD.
 * @throws TidepoolError what the registry says; ORIGIN_UNREACHABLE or ORIGIN_ERROR when it says nothing
 */
export async function askRegistry(
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
