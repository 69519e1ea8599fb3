import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseReference } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { ImageWord } from '../../shared/oci-layout/image-word.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { TagPolicy } from '../../shared/wire/messages/tuning.ts';
import type { Index, ManifestRecord, RepositoryName, TagRecord } from '../index/types.ts';
import type { RegistryOrigin } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type { Member, PeerClient, ToldTag } from '../peers/types.ts';
import type { BlobStore } from '../store/types.ts';
import { type ContentScope, outsideScope } from './access/content-scope.ts';
import type { Provenance } from './access/provenance.ts';
import { askAll, untilAborted } from './ask-all.ts';
import { ASK_WAIT_MS, STATED_RECORDS } from './constants.ts';
import { readDescriptors } from './descriptors.ts';
import { type ImageWords, recordsWith, type TagName, withWords } from './image-words.ts';
import type { OriginWatch } from './origin-watch.ts';
import { isSilence, type Patience, type Question, Silence } from './patience.ts';
import type { TransferStats } from './stats.ts';
import { type Candidate, pickRecord, type StatedRecord, type TagPin, whyNone } from './tags.ts';
import type { ContentRequest, ManifestAnswer } from './types.ts';
import type { Expected, Warmup } from './warmup.ts';

interface ManifestsComponents {
  readonly index: Index;
  readonly store: Pick<BlobStore, 'get'>;
  readonly origin: Pick<RegistryOrigin, 'manifest'>;
  readonly patience: Pick<Patience, 'put'>;
  readonly client: Pick<PeerClient, 'manifest' | 'tags' | 'holdings'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly scope: Pick<ContentScope, 'has' | 'hasManifest' | 'addManifest' | 'shownBy'>;
  readonly provenance: Pick<Provenance, 'mayShare'>;
  readonly stats: TransferStats;
  readonly watch?: Pick<OriginWatch, 'used'>;
  readonly warmup?: Pick<Warmup, 'whileQuiet'> | undefined;
  /** What bundles have brought of the hub's word. */
  readonly words?: ImageWords | undefined;
  readonly events?: EventSink | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Records of neighbours whose signatures are looked at for one tag. */
const MAX_TOLD = 64;

type ManifestRequest = ContentRequest & { readonly reference: string };

/** Manifests by digest from the pool, and tags by the pool's policy: no single peer's word moves a tag. */
export class Manifests {
  readonly #c: ManifestsComponents;
  readonly #flights = new SingleFlight<string, ManifestRecord>();
  #policy: TagPolicy = 'stale-if-offline';
  #quorum = 1;
  #pins: readonly TagPin[] = [];
  /** Answers to tags that the origin could not be asked for. */
  staleAnswers = 0;
  /** Told of each answer that an origin gave with the credentials of a request: whoever sent it may pull there. */
  onAuthorized: (request: ContentRequest) => void = () => undefined;

  constructor(components: ManifestsComponents) {
    this.#c = components;
  }

  configure(tags: { policy: TagPolicy; quorum: number }): void {
    this.#policy = tags.policy;
    this.#quorum = tags.quorum;
  }

  /** All that the hub says of tags now: its word goes before every record while an origin cannot be asked. */
  setPins(pins: readonly TagPin[]): void {
    this.#pins = pins;
  }

  async get(request: ManifestRequest): Promise<ManifestAnswer> {
    const reference = parseReference(request.reference);
    if (reference.kind === 'digest') return this.#byDigest(request, reference.digest);
    return this.#byTag(request, reference.tag);
  }

  /** What this node answers a neighbour that asks for its records of a tag. */
  records(name: { registry: string; repository: string; tag: string }): readonly ToldTag[] {
    const own = this.#c.index.tags.list(name.registry, name.repository, name.tag);
    return recordsWith(own, name, this.#c.words);
  }

  /** Which of these are here and known to be of the repository: manifests at all, blobs whole. */
  held(digests: readonly Digest[], name: RepositoryName): Digest[] {
    return digests.filter((digest) => {
      if (this.record(digest, name) !== undefined) return true;
      return (
        this.#c.store.get(digest)?.whole === true &&
        this.#c.scope.has(name, digest) &&
        this.#c.provenance.mayShare(name.registry, digest)
      );
    });
  }

  /** A manifest that is here and known to be of the repository. */
  record(digest: Digest, name: RepositoryName): ManifestRecord | undefined {
    return this.#c.scope.hasManifest(name, digest) ? this.#c.index.manifests.get(digest) : undefined;
  }

  async #byDigest(request: ManifestRequest, digest: Digest): Promise<ManifestRecord> {
    const known = this.record(digest, request);
    if (known !== undefined) return known;
    const flight = `${request.registry}/${request.repository}@${digest}`;
    const record = await this.#flights.run(
      flight,
      (signal) => this.#fetch({ ...request, signal }, digest),
      request.signal,
    );
    return record;
  }

  async #fetch(request: ContentRequest, digest: Digest): Promise<ManifestRecord> {
    const fromPool = await this.#fromPool(request, digest, request.signal);
    if (fromPool !== undefined) return this.keep(request, fromPool);
    const here = this.#c.index.manifests.get(digest);
    try {
      // The manifest itself, also where its bytes are here under another name: only who has them can send them.
      const answer = await this.#c.origin.manifest({ ...request, reference: digest, method: 'GET' });
      if (answer.bytes === undefined)
        throw new TidepoolError('ORIGIN_ERROR', `${request.registry} sent no manifest for ${digest}`);
      this.#c.stats.wanBytes += answer.bytes.length;
      this.onAuthorized(request);
      return this.keep(request, { digest, mediaType: answer.mediaType, bytes: answer.bytes });
    } catch (error) {
      request.signal?.throwIfAborted();
      if (here === undefined || !isSilence(error)) throw error;
      const why = `no member that can be reached has had it from there, and the registry cannot be asked (${describeError(error)})`;
      throw outsideScope(request, digest, why);
    }
  }

  async #fromPool(
    name: RepositoryName,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<ManifestRecord | undefined> {
    return askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => this.#c.client.manifest(member, digest, name, inner),
      enough: (record) => record !== undefined,
    }).then((answers) => answers.find((answer) => answer.value !== undefined)?.value);
  }

  async #byTag(request: ManifestRequest, tag: string): Promise<ManifestAnswer> {
    const { registry, repository } = request;
    this.#c.watch?.used(registry, repository, tag);
    const own = this.#c.index.tags.list(registry, repository, tag);
    const pinned = own[0];
    if (this.#policy === 'pinned' && pinned !== undefined) return this.#byDigest(request, pinned.digest);
    const { signal } = request;
    const question = this.#c.patience.put(request, { quorum: this.#quorum, signal }, (inner) =>
      this.#fresh({ ...request, signal: inner }, tag, own),
    );
    if (this.#policy === 'fresh') return this.#byDigest(request, await untilAborted(question.answer, signal));
    const warm = this.#c.warmup?.whileQuiet(request, question.quiet, () => this.#expected(request, tag, own));
    try {
      const answer = await this.#inPatience(request, tag, own, question);
      warm?.answered(answer.digest);
      return answer;
    } finally {
      warm?.answered(undefined);
    }
  }

  /** What the origin answers in time, else a record, else what the origin answers at all. */
  async #inPatience(
    request: ManifestRequest,
    tag: string,
    own: readonly TagRecord[],
    { answer, patient }: Question<Digest>,
  ): Promise<ManifestAnswer> {
    const { signal } = request;
    let why: unknown;
    try {
      const first = await untilAborted(patient, signal);
      if (!(first instanceof Silence)) return await this.#byDigest(request, first);
      why = first.why;
    } catch (error) {
      signal?.throwIfAborted();
      if (!isSilence(error)) throw error;
      why = error;
    }
    try {
      return await this.#stale(request, tag, own, why);
    } catch (error) {
      signal?.throwIfAborted();
      const digest = await untilAborted(answer, signal).catch((reason: unknown) => {
        throw isSilence(reason) ? error : reason;
      });
      return await this.#byDigest(request, digest);
    }
  }

  /** What a record would answer, and the manifest that names its layers. */
  async #expected(
    request: ManifestRequest,
    tag: string,
    own: readonly TagRecord[],
  ): Promise<Expected | undefined> {
    const { best } = await this.#best(request, tag, own);
    if (best === undefined) return undefined;
    const image = await this.#imageOf(request, best.manifest);
    return image === undefined ? undefined : { named: best.manifest.digest, image };
  }

  /** The manifest that names layers: itself, or of an index what is whole in the pool for one of its platforms. */
  async #imageOf(request: ManifestRequest, top: ManifestRecord): Promise<ManifestRecord | undefined> {
    const { manifests } = readDescriptors(top);
    if (manifests.length === 0) return top;
    for (const child of manifests) {
      const manifest = await this.#wholeInPool(request, child.digest);
      if (manifest !== undefined) return manifest;
    }
    return undefined;
  }

  /** What the origin says that the tag names, kept. */
  async #fresh(request: ManifestRequest, tag: string, own: readonly TagRecord[]): Promise<Digest> {
    const { registry, repository } = request;
    const answer = await this.#c.origin.manifest({ ...request, reference: tag, method: 'HEAD' });
    this.onAuthorized(request);
    this.#seen(request, answer.digest);
    if (own[0]?.digest !== answer.digest || answer.at > own[0].originAt) {
      this.#c.index.tags.put({ registry, repository, tag, digest: answer.digest, originAt: answer.at });
    }
    return answer.digest;
  }

  /** Answers from a record. @throws TidepoolError ORIGIN_UNREACHABLE where none can be served */
  async #stale(
    request: ManifestRequest,
    tag: string,
    own: readonly TagRecord[],
    why: unknown,
  ): Promise<ManifestAnswer> {
    const { registry, repository } = request;
    const { best, others, candidates } = await this.#best(request, tag, own);
    if (best === undefined) {
      throw new TidepoolError(
        'ORIGIN_UNREACHABLE',
        `${registry} cannot be asked for ${repository}:${tag} (${describeError(why)}), and no record of it can be served: ${whyNone(others, this.#quorum, candidates)}`,
        { cause: why },
      );
    }
    const { manifest, candidate } = best;
    const { digest, by, originAt } = candidate;
    this.staleAnswers++;
    this.#c.events?.note({
      kind: 'tag-stale',
      key: `${registry}/${repository}:${tag}`,
      detail: `${by}: ${digest}`,
    });
    this.#c.log.warn(
      {
        registry,
        repository,
        tag,
        digest,
        by,
        ...(originAt === undefined ? {} : { since: new Date(originAt).toISOString() }),
        why: describeError(why),
      },
      'tag answered from a record: the origin cannot be asked',
    );
    return { ...manifest, staleSince: originAt ?? this.#c.clock.now() };
  }

  /** The best word on the tag whose content is whole among the members that can be reached. */
  async #best(
    request: ManifestRequest,
    tag: string,
    own: readonly TagRecord[],
  ): Promise<{
    readonly best: { readonly candidate: Candidate; readonly manifest: ManifestRecord } | undefined;
    readonly others: readonly StatedRecord[];
    readonly candidates: readonly Candidate[];
  }> {
    const { registry, repository, signal } = request;
    const said = await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, signal, {
      ask: (member, inner) => this.#c.client.tags(member, { registry, repository, tag }, inner),
      enough: () => false,
    });
    const isMeant = (each: Omit<TagPin, 'digest'>): boolean =>
      each.registry === registry && each.repository === repository && each.tag === tag;
    const others = said.flatMap(({ member, value }) =>
      value
        .filter(isMeant)
        .slice(0, STATED_RECORDS)
        .map((record) => ({ node: member.node, record })),
    );
    const pins = this.#pins.filter(isMeant).map(({ digest }) => digest);
    const now = this.#c.clock.now();
    const words = this.#wordsOf(
      { registry, repository, tag },
      said.flatMap(({ value }) => value),
    );
    const candidates = withWords(pickRecord({ pins, own, others, quorum: this.#quorum, now }), words);
    for (const candidate of candidates) {
      const manifest = await this.#wholeInPool(request, candidate.digest);
      if (manifest !== undefined) return { best: { candidate, manifest }, others, candidates };
    }
    return { best: undefined, others, candidates };
  }

  /** What the hub has signed of a tag, as far as this node or a neighbour has it; what neighbours have is kept. */
  #wordsOf(name: TagName, told: readonly ToldTag[]): ImageWord[] {
    const { words } = this.#c;
    if (words === undefined) return [];
    const own = words.get(name);
    const found = [...new Set(told.slice(0, MAX_TOLD).flatMap(({ word }) => word ?? []))].flatMap((text) => {
      const word = words.read(text, name);
      if (word !== undefined) words.keep(text, word);
      return word ?? [];
    });
    return [...(own === undefined ? [] : [own]), ...found];
  }

  /** The manifest, when it and all it names (for an index: of one platform at least) are held by members within reach. */
  async #wholeInPool(request: ManifestRequest, digest: Digest): Promise<ManifestRecord | undefined> {
    const manifest =
      this.record(digest, request) ??
      (await this.#fromPool(request, digest, request.signal).catch(() => undefined));
    if (manifest === undefined) return undefined;
    const { blobs, manifests } = readDescriptors(manifest);
    if (manifests.length > 0) {
      for (const child of manifests) {
        if ((await this.#wholeInPool(request, child.digest)) !== undefined)
          return this.keep(request, manifest);
      }
      return undefined;
    }
    const missing = new Set(blobs.map((blob) => blob.digest));
    for (const digest of this.held([...missing], request)) missing.delete(digest);
    if (missing.size > 0) {
      const answers = await askAll(this.#c, this.#c.members.live(), ASK_WAIT_MS, request.signal, {
        ask: (member: Member, inner) => this.#c.client.holdings(member, [...missing], request, inner),
        enough: () => false,
      });
      for (const { value } of answers) for (const digest of value) missing.delete(digest);
    }
    return missing.size === 0 ? this.keep(request, manifest) : undefined;
  }

  /** The registry says that a repository has this manifest, which is enough where it has shown the bytes under another name. */
  #seen(name: RepositoryName, digest: Digest): void {
    if (this.#c.scope.hasManifest(name, digest) || !this.#c.scope.shownBy(name.registry, digest)) return;
    const record = this.#c.index.manifests.get(digest);
    if (record !== undefined) this.keep(name, record);
  }

  /** Keeps a manifest that is known to be of the repository, with what follows from that. @throws TidepoolError ORIGIN_LIED, STORE_FULL */
  keep(name: RepositoryName, record: ManifestRecord): ManifestRecord {
    const { blobs } = readDescriptors(record);
    this.#c.index.manifests.put(record);
    this.#c.scope.addManifest(name, record);
    this.#c.index.sizes.put(blobs.map((blob) => [blob.digest, blob.size] as const));
    return record;
  }
}
