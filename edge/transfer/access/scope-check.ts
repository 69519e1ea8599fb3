import type { Clock } from '../../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../../shared/errors.ts';
import { Recent } from '../../../shared/flow/recent.ts';
import { SingleFlight } from '../../../shared/flow/single-flight.ts';
import { type BlobKey, type Digest, isDigest, type NodeName } from '../../../shared/ids.ts';
import type { RepositoryName } from '../../index/types.ts';
import type { RegistryOrigin } from '../../origin/types.ts';
import type { Members } from '../../peers/members.ts';
import type { Member, PeerClient } from '../../peers/types.ts';
import type { BlobStore } from '../../store/types.ts';
import { askAll, within } from '../ask-all.ts';
import { ASK_WAIT_MS } from '../constants.ts';
import type { Manifests } from '../manifests.ts';
import type { ContentRequest } from '../types.ts';
import { UNKNOWN_ENTRIES, UNKNOWN_MS } from './constants.ts';
import { type ContentScope, outsideScope } from './content-scope.ts';

interface ScopeCheckComponents {
  readonly scope: ContentScope;
  readonly store: Pick<BlobStore, 'get'>;
  readonly origin: Pick<RegistryOrigin, 'blobSize'>;
  readonly client: Pick<PeerClient, 'access' | 'manifest'>;
  readonly members: Pick<Members, 'live' | 'get' | 'suspect'>;
  readonly manifests: Pick<Manifests, 'keep'>;
  readonly clock: Clock;
}

/** Finds out whether a blob is of a repository: from what is known here, from its registry, or from neighbours. */
export class ScopeCheck {
  readonly #c: ScopeCheckComponents;
  readonly #learning = new SingleFlight<string, boolean>();
  readonly #unknown: Recent<true>;

  constructor(components: ScopeCheckComponents) {
    this.#c = components;
    this.#unknown = new Recent(components.clock, UNKNOWN_ENTRIES);
  }

  known(name: RepositoryName, digest: BlobKey): boolean {
    return this.#c.scope.has(name, digest);
  }

  /**
   * @throws TidepoolError what the registry says; DENIED where it cannot be asked and no neighbour knows, while the blob is
   * here under another name; ORIGIN_UNREACHABLE where it is not here
   */
  async ensure(request: ContentRequest & { readonly digest: Digest }): Promise<void> {
    const { digest, signal } = request;
    if (this.known(request, digest)) return;
    try {
      const size = await this.#c.origin.blobSize(request);
      this.#c.scope.addBlob(request, digest, size);
    } catch (error) {
      signal?.throwIfAborted();
      if (!isTidepoolError(error, 'ORIGIN_UNREACHABLE')) throw error;
      if (await this.#inPool(request, digest, signal)) return;
      if (this.#c.store.get(digest) === undefined) throw error;
      const why = `no member that can be reached knows a manifest there that names it, and the registry cannot be asked (${describeError(error)})`;
      throw outsideScope(request, digest, why);
    }
  }

  /** True when the neighbour shows a manifest of the repository that names the blob, or says that the registry has it there. */
  learnFrom(node: NodeName, name: RepositoryName, digest: BlobKey): Promise<boolean> {
    const key = `${node} ${name.registry}/${name.repository}@${digest}`;
    const member = this.#c.members.get(node);
    if (member === undefined || !isDigest(digest) || this.#unknown.get(key) === true)
      return Promise.resolve(false);
    return this.#learning.run(key, async () => {
      try {
        const { registry, repository } = name;
        const learnt = await within(this.#c.clock, ASK_WAIT_MS, undefined, (signal) =>
          this.#learn(member, { registry, repository }, digest, signal),
        );
        if (!learnt) this.#unknown.set(key, true, UNKNOWN_MS);
        return learnt;
      } catch (error) {
        if (!(error instanceof TidepoolError)) throw error;
        return false;
      }
    });
  }

  async #inPool(
    { registry, repository }: RepositoryName,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const name = { registry, repository };
    await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => this.#learn(member, name, digest, inner),
      enough: (learnt) => learnt,
    });
    return this.known(name, digest);
  }

  async #learn(member: Member, name: RepositoryName, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { scope } = await this.#c.client.access(member, { ...name, digest }, signal);
    if (scope === undefined) return false;
    if (scope.kind === 'blob' && scope.via === undefined) {
      this.#c.scope.addBlob(name, digest, undefined);
      return true;
    }
    const manifest = await this.#c.client.manifest(member, scope.via ?? digest, name, signal);
    if (manifest === undefined) return false;
    this.#c.manifests.keep(name, manifest);
    return this.known(name, digest);
  }
}
