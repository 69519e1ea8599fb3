import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/log.ts';
import type { Members } from '../peers/members.ts';
import type { PeerClient } from '../peers/types.ts';
import type { BlobStore } from '../store/types.ts';
import type { OriginReader } from './origin-reader.ts';
import type { TransferStats } from './stats.ts';
import type { WanGate } from './wan-gate.ts';

/** The pool as downloads see it. */
export type PoolMembers = Pick<
  Members,
  'self' | 'live' | 'get' | 'isLive' | 'version' | 'suspect' | 'setAside'
>;

/** What a download, and each part of one, works with. */
export interface DownloadComponents {
  readonly store: BlobStore;
  readonly client: PeerClient;
  readonly members: PoolMembers;
  readonly reader: OriginReader;
  readonly gate: WanGate;
  readonly stats: TransferStats;
  readonly clock: Clock;
  readonly log: Logger;
}
