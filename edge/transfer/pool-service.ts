import { TidepoolError } from '../../shared/errors.ts';
import { type BlobKey, type Digest, type NodeName, parseDigest } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { GrantRecord, ManifestRecord, RepositoryName } from '../index/types.ts';
import type { Members } from '../peers/members.ts';
import type {
  AccessAnswer,
  AccessAsk,
  Elsewhere,
  HelloAnswer,
  JoinAnswer,
  JoinRequest,
  LeaseAnswer,
  LeaseRequest,
  PieceAsk,
  ProgressAnswer,
  Refusal,
  ToldTag,
  UpstreamAsk,
} from '../peers/types.ts';
import type { BlobStore, Lease, PieceClaim, StoredBlob } from '../store/types.ts';
import type { Provenance } from './access/provenance.ts';
import type { RepositoryGate } from './access/repository-gate.ts';
import type { ScopeCheck } from './access/scope-check.ts';
import type { Manifests } from './manifests.ts';
import type { Swarms } from './swarms.ts';
import { type Content, PRIORITY } from './types.ts';
import type { WanBudget } from './wan-budget.ts';

/** How a neighbour's ask for a piece is answered; 'held' comes with where to read it. */
export type ServedPiece =
  | { readonly kind: 'held'; readonly stored: StoredBlob; readonly claim: PieceClaim }
  | { readonly kind: 'confirmed'; readonly claim: PieceClaim }
  | Elsewhere
  | Refusal;

interface PoolServiceComponents {
  readonly store: Pick<BlobStore, 'get'>;
  readonly members: Members;
  readonly manifests: Manifests;
  readonly swarms: Swarms;
  readonly budget: WanBudget;
  readonly content: Pick<Content, 'blob'>;
  readonly provenance: Pick<Provenance, 'mayShare' | 'begin'>;
  readonly scopeCheck: Pick<ScopeCheck, 'known' | 'learnFrom'>;
  readonly gate: Pick<RepositoryGate, 'tell' | 'granted'>;
  readonly log: Logger;
}

/** Largest member list in a hello. */
const HELLO_MEMBERS = 200;

/** What this node answers its neighbours: the pool's protocol without its transport. */
export class PoolService {
  readonly #c: PoolServiceComponents;
  readonly #address: string;
  readonly #weight: () => number;

  constructor(components: PoolServiceComponents, init: { address: string; weight: () => number }) {
    this.#c = components;
    this.#address = init.address;
    this.#weight = init.weight;
  }

  get pool(): string {
    return this.#c.members.pool;
  }

  /** Each request says who sends it, and so that it lives. */
  heard(node: NodeName, address: string): void {
    this.#c.members.heard(node, address);
  }

  hello(): HelloAnswer {
    const { members } = this.#c;
    return {
      node: members.self,
      pool: members.pool,
      address: this.#address,
      members: members
        .live()
        .slice(0, HELLO_MEMBERS)
        .map(({ node, address }) => ({ node, address })),
    };
  }

  /** At once where this node knows that the blob is of the repository, or has nothing of it. */
  join(from: NodeName, request: JoinRequest): JoinAnswer | Promise<JoinAnswer> {
    const may = this.#may(from, request, request.key);
    return typeof may === 'boolean'
      ? this.#join(from, request, may)
      : may.then((known) => this.#join(from, request, known));
  }

  #join(from: NodeName, request: JoinRequest, may: boolean): JoinAnswer {
    const nothing = new Uint8Array(Math.ceil(Math.ceil(request.size / request.pieceSize) / 8));
    if (!may) {
      this.#refused(from, request, request.key);
      return { onBlob: false, weight: this.#weight(), whole: false, have: nothing, claimed: [] };
    }
    const download = this.#c.swarms.get(request.key) ?? this.#gatewayDownload(request);
    if (download !== undefined) return download.presence.joinedBy(from, request);
    this.#c.swarms.note(from, request);
    const stored = this.#c.store.get(request.key);
    const same =
      stored !== undefined &&
      stored.layout.pieceSize === request.pieceSize &&
      stored.layout.size === request.size;
    return {
      onBlob: false,
      weight: this.#weight(),
      whole: same && stored.whole,
      have: same && stored.whole ? new Uint8Array(0) : same ? stored.have.toBytes() : nothing,
      claimed: [],
      ...(request.others === true ? { others: this.#c.swarms.noted(request.key) } : {}),
    };
  }

  leave(from: NodeName, key: BlobKey): void {
    this.#c.swarms.leave(from, key);
  }

  async piece(from: NodeName, ask: PieceAsk, signal: AbortSignal): Promise<ServedPiece> {
    const may = this.#may(from, ask, ask.key);
    if (may !== true && !(await may)) {
      this.#refused(from, ask, ask.key);
      return {
        kind: 'refused',
        code: 'DENIED',
        message: `${ask.key} is not known here to be of ${ask.registry}/${ask.repository}`,
      };
    }
    const known = this.#c.store.get(ask.key);
    if (known !== undefined && known.layout.pieceSize !== ask.layout.pieceSize) {
      return {
        kind: 'refused',
        code: 'LAYOUT',
        message: `pieces of ${ask.key} have ${known.layout.pieceSize} bytes here`,
      };
    }
    const download = this.#c.swarms.get(ask.key) ?? this.#gatewayDownload({ ...ask, ...ask.layout });
    if (ask.round > 0) {
      if (download === undefined) return notHeld(ask);
      const answer = await download.mender.reread(ask);
      return answer.kind === 'held' || answer.kind === 'confirmed' ? this.#serve(ask, answer.kind) : answer;
    }
    if (download !== undefined) {
      const answer = await download.ask(from, ask, signal);
      return answer.kind === 'held' ? this.#serve(ask, 'held') : answer;
    }
    return this.#serve(ask, 'held');
  }

  progress(key: BlobKey, name: RepositoryName): ProgressAnswer {
    if (!this.#open(name, key)) return { originBytes: 0, pieces: new Map() };
    return this.#c.swarms.get(key)?.progress() ?? { originBytes: 0, pieces: new Map() };
  }

  /** Piece digests of a blob that this node has verified, 32 bytes each. */
  claims(key: BlobKey, name: RepositoryName): Uint8Array | undefined {
    if (!this.#open(name, key)) return undefined;
    const stored = this.#c.store.get(key);
    if (stored?.whole !== true) return undefined;
    const hashes: Uint8Array[] = [];
    for (let piece = 0; piece < stored.layout.pieceCount; piece++) {
      const claim = stored.claim(piece);
      if (claim === undefined) return undefined;
      hashes.push(claim.sha256);
    }
    return Buffer.concat(hashes);
  }

  manifest(digest: Digest, name: RepositoryName): ManifestRecord | undefined {
    return this.#c.manifests.record(digest, name);
  }

  access(ask: AccessAsk): AccessAnswer {
    return this.#c.gate.tell(ask);
  }

  granted(from: NodeName, grants: readonly GrantRecord[]): void {
    this.#c.gate.granted(from, grants);
  }

  tags(name: { registry: string; repository: string; tag: string }): readonly ToldTag[] {
    return this.#c.manifests.records(name);
  }

  holdings(digests: readonly Digest[], name: RepositoryName): readonly Digest[] {
    return this.#c.manifests.held(digests, name);
  }

  /** Bytes of a blob that this node has verified. */
  size(digest: Digest, name: RepositoryName): number | undefined {
    if (!this.#open(name, digest)) return undefined;
    const stored = this.#c.store.get(digest as BlobKey);
    return stored?.whole === true ? stored.layout.size : undefined;
  }

  /** Bytes of a blob for another pool. @throws what the content says, before the first byte or on the way */
  async range(ask: UpstreamAsk, signal: AbortSignal): Promise<AsyncIterable<Lease>> {
    const { registry, repository, key, start, end } = ask;
    const view = await this.#c.content.blob({
      registry,
      repository,
      digest: parseDigest(key),
      priority: PRIORITY.prefetch,
      signal,
    });
    if (end > view.size) throw new TidepoolError('RANGE_NOT_SATISFIABLE', `${key} has ${view.size} bytes`);
    return view.read({ start, end, mode: 'range', signal });
  }

  lease(from: NodeName, request: LeaseRequest): LeaseAnswer {
    return this.#c.budget.grant(from, request);
  }

  #serve(ask: PieceAsk, kind: 'held' | 'confirmed'): ServedPiece {
    const stored = this.#c.store.get(ask.key);
    const claim = stored?.claim(ask.piece);
    if (stored === undefined || claim === undefined || !stored.have.has(ask.piece)) return notHeld(ask);
    return kind === 'held' ? { kind, stored, claim } : { kind, claim };
  }

  /**
   * Whether a neighbour may have of the blob under this name what this node has. Where nothing is here, nothing is to be kept
   * back. A repository that this node knows nothing of is learnt from the neighbour itself, which has to show a manifest of it
   * that names the blob; whose bytes they are, it cannot talk this node into.
   */
  #may(from: NodeName, name: RepositoryName, key: BlobKey): boolean | Promise<boolean> {
    if (this.#c.store.get(key) === undefined && this.#c.swarms.get(key) === undefined) return true;
    if (!this.#c.provenance.mayShare(name.registry, key)) return false;
    return this.#c.scopeCheck.known(name, key) || this.#c.scopeCheck.learnFrom(from, name, key);
  }

  #open(name: RepositoryName, key: BlobKey): boolean {
    return this.#c.scopeCheck.known(name, key) && this.#c.provenance.mayShare(name.registry, key);
  }

  #refused(node: NodeName, { registry, repository }: RepositoryName, key: BlobKey): void {
    const facts = { node, registry, repository, key };
    this.#c.log.info(facts, 'a neighbour asks for what is not known to be of that repository');
  }

  /** A gateway fetches for others what it does not want itself. */
  #gatewayDownload(blob: {
    key: BlobKey;
    size: number;
    pieceSize: number;
    registry: string;
    repository: string;
  }) {
    if (!this.#c.swarms.isGateway) return undefined;
    const stored = this.#c.store.get(blob.key);
    if (stored?.whole === true) return undefined;
    this.#c.provenance.begin(blob.registry, blob.key);
    const download = this.#c.swarms.open(blob);
    if (download.stored.layout.pieceSize !== blob.pieceSize) return undefined;
    download.serve();
    return download;
  }
}

function notHeld(ask: PieceAsk): Refusal {
  return { kind: 'refused', code: 'NOT_ON_BLOB', message: `piece ${ask.piece} of ${ask.key} is not here` };
}
