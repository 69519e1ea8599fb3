import type { Digest } from '../../../shared/ids.ts';
import { parseReference } from '../../../shared/image-ref.ts';
import type { OriginAnswer } from '../../origin/types.ts';
import type { BlobView, Content, ContentRequest, ManifestAnswer, TransferCounts } from '../types.ts';
import type { RepositoryGate } from './repository-gate.ts';

interface GuardedContentComponents {
  readonly content: Content;
  readonly gate: Pick<RepositoryGate, 'check' | 'offline' | 'refusal'>;
}

/** The pool's content for those who ask with credentials or without: nothing is given to whom its registry would not give it. */
export class GuardedContent implements Content {
  readonly #c: GuardedContentComponents;

  constructor(components: GuardedContentComponents) {
    this.#c = components;
  }

  async manifest(request: ContentRequest & { reference: string }): Promise<ManifestAnswer> {
    const { content, gate } = this.#c;
    const reference = parseReference(request.reference);
    if (reference.kind === 'digest') {
      await gate.check(request, { digest: reference.digest, kind: 'manifest' });
      return content.manifest(request);
    }
    let answer: ManifestAnswer;
    try {
      answer = await content.manifest(request);
    } catch (error) {
      throw gate.refusal(request, error);
    }
    // Where the registry was asked for the tag, it was asked as whoever wants it: the question is answered.
    if (answer.staleSince === undefined)
      await gate.check(request, { digest: answer.digest, kind: 'manifest' });
    else await gate.offline(request, 'the tag is answered from a record');
    return answer;
  }

  async blob(request: ContentRequest & { digest: Digest }): Promise<BlobView> {
    await this.#c.gate.check(request, { digest: request.digest, kind: 'blob' });
    return this.#c.content.blob(request);
  }

  async fill(
    request: ContentRequest & {
      digest: Digest;
      onProgress?: (counts: Readonly<TransferCounts>, size: number) => void;
    },
  ): Promise<TransferCounts> {
    await this.#c.gate.check(request, { digest: request.digest, kind: 'blob' });
    return this.#c.content.fill(request);
  }

  /** The registry itself is asked, as whoever wants it. */
  passThrough(
    request: ContentRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer> {
    return this.#c.content.passThrough(request);
  }
}
