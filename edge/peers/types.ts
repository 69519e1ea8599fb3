import type { BlobKey, Digest, NodeName, PoolName } from '../../shared/ids.ts';
import type { PieceLayout } from '../../shared/pieces.ts';
import type {
  GrantRecord,
  ManifestRecord,
  RepositoryAccess,
  RepositoryName,
  TagRecord,
} from '../index/types.ts';
import type { PieceBuffer, PieceClaim } from '../store/types.ts';

/** A neighbour of this pool, at a literal address. */
export interface Member {
  readonly node: NodeName;
  /** `10.0.0.7:6181` or `[fd00::7]:6181`. */
  readonly address: string;
}

/** "I am on this blob; what have you, what have you claimed?" */
export interface JoinRequest {
  readonly key: BlobKey;
  readonly size: number;
  readonly pieceSize: number;
  readonly registry: string;
  readonly repository: string;
  /** False for one that reads ranges or only looks: it is answered and never ranked. */
  readonly ranked: boolean;
  readonly weight: number;
  /** Packed bits of the pieces that the sender holds. */
  readonly have: Uint8Array;
  /** Pieces that the sender is fetching from the origin, or has promised to. */
  readonly claimed: readonly number[];
  /** Some member has not answered the sender: the answer is to say who else is known to be on the blob. */
  readonly others?: boolean;
  /** What the sender knows of the origin, and does there; absent while it knows nothing. */
  readonly origin?: OriginWord;
}

/**
 * The origin takes ranges; it sends blobs whole only; the same, and the sender asks whether it may read the blob for all;
 * the same, and it does.
 */
export type OriginWord = 'ranges' | 'whole' | 'asks' | 'reads';

export interface JoinAnswer {
  /** The answerer is on the blob too, or has been: it ranks. */
  readonly onBlob: boolean;
  readonly weight: number;
  /** It holds every byte, verified. `have` is then empty. */
  readonly whole: boolean;
  readonly have: Uint8Array;
  /** Pieces it is fetching from the origin, or has promised to. */
  readonly claimed: readonly number[];
  /** Members that have announced themselves to the answerer; only when it was asked for them. */
  readonly others?: readonly Announced[];
  readonly origin?: OriginWord;
}

/** A member that ranks on a blob, as another one says. */
export interface Announced {
  readonly node: NodeName;
  readonly weight: number;
}

export interface PieceAsk {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly piece: number;
  readonly registry: string;
  readonly repository: string;
  /** Members that the asker has found unable to give this piece. */
  readonly excluding: readonly NodeName[];
  /** Set when a holder sent the asker on: the asked may let it wait for what that holder is feeding it. */
  readonly via?: NodeName;
  /** 0, or the round of rereading after the blob's digest did not match. */
  readonly round: number;
  /** Hex sha256 of the bytes that the asker holds from the round before: equal ones need not travel. */
  readonly holding?: string;
  /** The asker has found that the origin takes no ranges: one owner reads the whole blob. */
  readonly rangeless?: boolean;
  /** In such a round: only the claim of what was read is wanted, not its bytes. */
  readonly compare?: boolean;
  readonly priority: number;
}

export type Refusal = { readonly kind: 'refused'; readonly code: string; readonly message: string };
export type Elsewhere = {
  readonly kind: 'elsewhere';
  readonly node: NodeName;
  /** True when `node` is being fed by the answerer: ask it with `via`. */
  readonly fed: boolean;
};

export type PieceAnswer =
  /** The bytes match the claim; the caller owns the buffer. */
  | { readonly kind: 'bytes'; readonly buffer: PieceBuffer; readonly claim: PieceClaim }
  /** What the asker holds is right. */
  | { readonly kind: 'confirmed'; readonly claim: PieceClaim }
  | Elsewhere
  | Refusal;

/** How far a member's own origin reads of one blob are. */
export interface ProgressAnswer {
  /** All bytes that this member has read from the origin for the blob. */
  readonly originBytes: number;
  /** Bytes at hand of each claimed piece that has been started. */
  readonly pieces: ReadonlyMap<number, number>;
}

/** Renewed each second while the pool has a WAN cap; `wants` false says "here, and idle". */
export interface LeaseRequest {
  readonly wants: boolean;
  readonly wantsPrefetch: boolean;
  /** Rates that the sender works with until it has the answer, bytes a second. */
  readonly using: number;
  readonly usingPrefetch: number;
  /** How long it may still do so, ms; 0 without a lease. */
  readonly usingMs: number;
}

/** Bytes a second that the holder may use until `validMs` after it sent its request. */
export interface LeaseAnswer {
  readonly granted: boolean;
  readonly rate: number;
  readonly prefetchRate: number;
  readonly validMs: number;
}

/** A range of a blob asked of another pool, which gets it as if it wanted it itself. */
export interface UpstreamAsk {
  readonly key: BlobKey;
  readonly registry: string;
  readonly repository: string;
  readonly start: number;
  readonly end: number;
}

/** "What do you know of this repository?": who may pull from it, and whether it has some content. */
export interface AccessAsk extends RepositoryName {
  readonly digest?: Digest;
  /** Of somebody's credentials for the repository. */
  readonly grant?: string;
}

export interface AccessAnswer extends RepositoryAccess {
  /** When the grant that was asked for was given, ms since 1970. */
  readonly grantedAt?: number;
  /** The repository has the content: a manifest itself, a blob that `via` names, or one that the registry was asked for alone. */
  readonly scope?: { readonly kind: 'manifest' | 'blob'; readonly via?: Digest };
  /** Since when (ms since 1970) the registry has not answered that neighbour. */
  readonly downSince?: number;
  /** How long the registry's silence says nothing to that neighbour, by what it took there of late. */
  readonly patienceMs?: number;
  /** How long ago anything last came to that neighbour over the WAN, ms. */
  readonly heardMs?: number;
}

export interface HelloAnswer {
  readonly node: NodeName;
  readonly pool: PoolName;
  readonly address: string;
  readonly members: readonly Member[];
}

/**
 * Requests to one neighbour. Every one names this node and its pool; a neighbour of another pool refuses (POOL_MISMATCH).
 * Errors: PEER_UNREACHABLE (the connection failed or the neighbour speaks nonsense), PIECE_CORRUPT (bytes that differ from
 * the neighbour's own claim), or the signal's reason.
 */
export interface PeerClient {
  hello(address: string, signal: AbortSignal): Promise<HelloAnswer>;
  join(member: Member, request: JoinRequest, signal: AbortSignal): Promise<JoinAnswer>;
  leave(member: Member, key: BlobKey, signal: AbortSignal): Promise<void>;
  /** Held by the neighbour while it fetches the piece; `onBytes` is told of each chunk that arrives. */
  piece(
    member: Member,
    ask: PieceAsk,
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): Promise<PieceAnswer>;
  progress(member: Member, key: BlobKey, name: RepositoryName, signal: AbortSignal): Promise<ProgressAnswer>;
  /** 32 bytes a piece, of a blob that the neighbour has verified; undefined when it has not. */
  claims(
    member: Member,
    key: BlobKey,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined>;
  /** A manifest that is known to be of the repository, to the neighbour; undefined when it knows of none. */
  manifest(
    member: Member,
    digest: Digest,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<ManifestRecord | undefined>;
  tags(
    member: Member,
    name: { registry: string; repository: string; tag: string },
    signal: AbortSignal,
  ): Promise<readonly ToldTag[]>;
  /** Which of these the neighbour holds whole (blobs) or at all (manifests) and may give out under the repository. */
  holdings(
    member: Member,
    digests: readonly Digest[],
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<readonly Digest[]>;
  /** Bytes of a blob that the neighbour holds whole, every byte checked against its digest; undefined when it does not. */
  size(
    member: Member,
    digest: Digest,
    name: RepositoryName,
    signal: AbortSignal,
  ): Promise<number | undefined>;
  access(member: Member, ask: AccessAsk, signal: AbortSignal): Promise<AccessAnswer>;
  /** Tells the neighbour of grants that this node has found. */
  grants(member: Member, grants: readonly GrantRecord[], signal: AbortSignal): Promise<void>;
  lease(member: Member, request: LeaseRequest, signal: AbortSignal): Promise<LeaseAnswer>;
  /** Bytes of a range from a member of another pool. Throws when it ends early. */
  upstream(address: string, ask: UpstreamAsk, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
}

/** A neighbour's record of a tag, with what the hub has signed of it, where the neighbour has that. */
export type ToldTag = TagRecord & { readonly word?: string };

/**
 * What a member says of a blob that a neighbour would like to give up.
 * `kept`: it is here, whole, on the disk, and will not go without somebody else keeping it. `leaving`: this member is giving
 * it up itself and promises nothing. `absent`: it is not here.
 */
export type CustodyWord = 'kept' | 'leaving' | 'absent';

/** Whoever promises neighbours to keep blobs; one word a key, in their order. */
export interface Custodian {
  keep(keys: readonly BlobKey[]): Promise<readonly CustodyWord[]>;
}
