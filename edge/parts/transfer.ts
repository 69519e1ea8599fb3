/** How pieces, manifests and tags come to this node and go to its neighbours: the rooms of transfer, tied together. */
import type { Clock } from '../../shared/clock.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { RegistryOrigin } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type { PeerClient } from '../peers/types.ts';
import type { BlobStore, PassingStore, StoreRoom } from '../store/types.ts';
import { ApartReader } from '../transfer/access/apart-reader.ts';
import { ContentScope } from '../transfer/access/content-scope.ts';
import { GrantBook } from '../transfer/access/grant-book.ts';
import { GuardedContent } from '../transfer/access/guarded-content.ts';
import { Provenance } from '../transfer/access/provenance.ts';
import { RepositoryGate } from '../transfer/access/repository-gate.ts';
import { ScopeCheck } from '../transfer/access/scope-check.ts';
import { ImageWords, type WordTrust } from '../transfer/image-words.ts';
import { LenientIndex } from '../transfer/lenient-index.ts';
import { Manifests } from '../transfer/manifests.ts';
import { OriginReader } from '../transfer/origin-reader.ts';
import { OriginWatch } from '../transfer/origin-watch.ts';
import { PassReader } from '../transfer/pass-reader.ts';
import { Patience } from '../transfer/patience.ts';
import { PoolContent } from '../transfer/pool-content.ts';
import { PoolService } from '../transfer/pool-service.ts';
import { RegistryPace } from '../transfer/registry-pace.ts';
import { TransferStats } from '../transfer/stats.ts';
import { Swarms } from '../transfer/swarms.ts';
import { UpstreamPool } from '../transfer/upstream.ts';
import { WanBudget } from '../transfer/wan-budget.ts';
import { WanGate } from '../transfer/wan-gate.ts';
import { Warmup } from '../transfer/warmup.ts';

interface TransferComponents {
  readonly index: SqliteIndex;
  readonly store: BlobStore & PassingStore;
  /** What of it lies in this node's own files; absent: all. */
  readonly own?: BlobStore | undefined;
  readonly origin: RegistryOrigin;
  readonly client: PeerClient;
  readonly members: Members;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random: () => number;
  /** Who tells what the hub has signed; undefined where nobody can. */
  readonly trust?: WordTrust | undefined;
  readonly events?: EventSink | undefined;
  /** Absent: what finds no room in the store fails. */
  readonly room?: StoreRoom | undefined;
}

interface TransferInit {
  readonly node: NodeName;
  /** Where neighbours reach this node. */
  readonly address: string;
  /** Connections to origins at a time, before any tuning. */
  readonly connections: number;
  /** This node's share in a swarm, as tuned now. */
  readonly weight: () => number;
}

export interface Transfer {
  readonly stats: TransferStats;
  readonly gate: WanGate;
  readonly upstream: UpstreamPool;
  readonly swarms: Swarms;
  readonly budget: WanBudget;
  readonly watch: OriginWatch;
  readonly manifests: Manifests;
  readonly words: ImageWords;
  readonly provenance: Provenance;
  readonly grants: GrantBook;
  readonly repositories: RepositoryGate;
  /** What the mirror and prefetches read; neighbours ask the service. */
  readonly content: GuardedContent;
  readonly service: PoolService;
  /** Rows of the index are gone: what is remembered of it is read again. */
  forget(): void;
}

/** Nothing is started. */
export function makeTransfer(components: TransferComponents, init: TransferInit): Transfer {
  const { store, own = store, origin, client, members, clock, log, random, room } = components;
  const index =
    room === undefined ? components.index : new LenientIndex({ index: components.index, room, log });
  const stats = new TransferStats();
  const gate = new WanGate({ clock }, { connections: init.connections });
  const upstream = new UpstreamPool({ client, clock, log });
  const reader = new OriginReader(
    { origin, upstream, store, gate, stats, clock, log, random },
    { self: init.node },
  );
  const swarms = new Swarms({ store: own, client, members, reader, gate, stats, clock, log });
  const budget = new WanBudget({ gate, client, members, clock, log });
  const pace = new RegistryPace({ documents: index.documents, stats, clock });
  const patience = new Patience({ origin, client, members, pace, clock });
  const watch = new OriginWatch({ origin, pace, clock, log, random });
  const scope = new ContentScope({ table: index.scope });
  const provenance = new Provenance({
    table: index.provenance,
    scope: index.scope,
    store,
    own,
    swarms,
  });
  const words = new ImageWords({ documents: components.index.documents, trust: components.trust });
  const manifests = new Manifests({
    index,
    store,
    origin,
    patience,
    client,
    members,
    scope,
    provenance,
    stats,
    watch,
    warmup: new Warmup({ store, swarms, provenance, clock, log }),
    words,
    events: components.events,
    clock,
    log,
  });
  const scopeCheck = new ScopeCheck({ scope, store, origin, client, members, manifests, clock });
  const passReader = new PassReader({ store, swarms, stats });
  const poolContent = new PoolContent({
    index,
    store,
    origin,
    client,
    members,
    manifests,
    swarms,
    scope,
    scopeCheck,
    provenance,
    apart: new ApartReader({ reader: passReader, provenance }),
    ...(room === undefined ? {} : { passing: { room, reader: passReader } }),
    clock,
  });
  const grants = new GrantBook({ table: index.grants, client, members, clock, log });
  const repositories = new RepositoryGate({
    scope,
    table: index.scope,
    grants,
    origin,
    patience,
    pace,
    client,
    members,
    clock,
    log,
  });
  manifests.onAuthorized = (request) => repositories.authorized(request);
  const content = new GuardedContent({ content: poolContent, gate: repositories });
  const service = new PoolService(
    {
      store,
      members,
      manifests,
      swarms,
      budget,
      content: poolContent,
      provenance,
      scopeCheck,
      gate: repositories,
      log,
    },
    { address: init.address, weight: () => init.weight() },
  );
  return {
    stats,
    gate,
    upstream,
    swarms,
    budget,
    watch,
    manifests,
    words,
    provenance,
    grants,
    repositories,
    content,
    service,
    forget: () => {
      scope.forget();
      provenance.forget();
    },
  };
}
