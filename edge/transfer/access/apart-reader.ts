import type { Digest } from '../../../shared/ids.ts';
import type { Lease } from '../../store/types.ts';
import type { Download } from '../download.ts';
import type { PassReader } from '../pass-reader.ts';
import type { ContentRequest } from '../types.ts';
import type { Provenance } from './provenance.ts';

interface ApartReaderComponents {
  readonly reader: Pick<PassReader, 'read'>;
  readonly provenance: Pick<Provenance, 'prove'>;
}

/**
 * Reads a blob past the store: of one that is here, but came from another registry, or nobody knows any more from which. It
 * comes as to a node that has nothing of it, from members that have it under this name or from its registry, and once every
 * byte has come and matches the digest, the ones here may be served under the name too. A member that gives them has them:
 * it gains nothing by a false name that it had not before. Its mere word would not be enough, and no registry's is.
 */
export class ApartReader {
  readonly #c: ApartReaderComponents;

  constructor(components: ApartReaderComponents) {
    this.#c = components;
  }

  /** Bytes [start, end) in order; of the whole blob, the last piece only after the digest is verified. */
  read(
    request: ContentRequest & { readonly digest: Digest },
    size: number,
    range: {
      readonly start: number;
      readonly end: number;
      readonly signal?: AbortSignal | undefined;
      readonly onDownload: (download: Download) => void;
    },
  ): AsyncGenerator<Lease> {
    const { start, end, signal, onDownload } = range;
    return this.#c.reader.read(request, size, {
      ...{ start, end, position: start, sent: new Map(), signal, onDownload },
      onProven: () => this.#c.provenance.prove(request.registry, request.digest),
    });
  }
}
