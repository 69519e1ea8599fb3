/** What brings images ahead of their use, and what keeps them there. */
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/log.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { AgentIdentity } from '../identity/agent-identity.ts';
import { JobAccounts } from '../identity/job-accounts.ts';
import type { SqliteIndex } from '../index/sqlite-index.ts';
import type { Members } from '../peers/members.ts';
import { CountedTime } from '../prefetch/counted-time.ts';
import { KeptImages } from '../prefetch/kept-images.ts';
import type { Platform } from '../prefetch/platform.ts';
import { PrefetchRunner } from '../prefetch/prefetch-runner.ts';
import { WanAllowance } from '../prefetch/wan-allowance.ts';
import { type DiskFree, spareBytes } from '../retention/pressure.ts';
import type { Room } from '../retention/room.ts';
import type { CriRuntime } from '../runtime/cri/cri-runtime.ts';
import type { AgentSettings } from '../settings.ts';
import { makePinKeeper } from './pins.ts';
import type { Transfer } from './transfer.ts';

interface PrefetchComponents {
  readonly index: SqliteIndex;
  readonly transfer: Transfer;
  readonly members: Members;
  readonly runtime: CriRuntime;
  /** Undefined for an agent that needs no certificate. */
  readonly identity: AgentIdentity | undefined;
  readonly clock: Clock;
  readonly logOf: (room: string) => Logger;
  readonly random: () => number;
  readonly room: Pick<Room, 'open'>;
  readonly disk: () => Promise<DiskFree>;
  /** By the hub's clock, ms; undefined until it is heard. */
  readonly hubTime: () => number | undefined;
  /** What the hub is to be told. */
  readonly onProgress: (progress: PrefetchProgress) => void;
}

interface PrefetchInit {
  readonly platform: Platform;
  readonly settings: Pick<AgentSettings, 'node' | 'trust' | 'runtime' | 'sourceAddress'>;
}

export interface Prefetching {
  readonly allowance: WanAllowance;
  readonly prefetch: PrefetchRunner;
  readonly kept: KeptImages;
  readonly pinKeeper: ReturnType<typeof makePinKeeper>;
}

/** Nothing is started. */
export function makePrefetch(components: PrefetchComponents, init: PrefetchInit): Prefetching {
  const { index, transfer, members, runtime, identity, clock, logOf, random } = components;
  const { documents } = index;
  const { node, trust, sourceAddress } = init.settings;
  const allowance = new WanAllowance({ documents, members, clock, log: logOf('allowance') });
  transfer.gate.setPrefetchGuard(allowance);
  const accounts =
    identity === undefined || trust.enrollUrl === undefined
      ? undefined
      : new JobAccounts({ clock, identity }, { node, url: trust.enrollUrl, localAddress: sourceAddress });
  const log = logOf('prefetch');
  const time = new CountedTime({ clock, documents, log, hubTime: components.hubTime });
  const kept = new KeptImages({ documents, time, clock, log });
  const { room, disk } = components;
  const prefetch = new PrefetchRunner(
    {
      content: transfer.content,
      allowance,
      runtime,
      accounts,
      kept,
      room: { open: () => room.open, free: async () => spareBytes(await disk()) },
      documents,
      clock,
      log,
      report: components.onProgress,
    },
    { node, platform: init.platform, random },
  );
  const pinKeeper = makePinKeeper(
    { documents, images: () => prefetch.images(), clock, log: logOf('pins'), random },
    { socket: init.settings.runtime.criSocket ?? undefined },
  );
  return { allowance, prefetch, kept, pinKeeper };
}
