/** The container runtime of this node, as far as the agent has to do with it. */
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/log.ts';
import type { RuntimeReport } from '../../shared/wire/messages/report.ts';
import { formatHostPort } from '../config/addresses.ts';
import { adviseContainerd } from '../runtime/containerd/advice.ts';
import { FallbackKeeper } from '../runtime/containerd/fallback-keeper.ts';
import { SELF_TEST_REGISTRY } from '../runtime/cri/constants.ts';
import { CriRuntime, type RuntimeState } from '../runtime/cri/cri-runtime.ts';
import type { Witness } from '../runtime/cri/witness.ts';
import type { AgentSettings } from '../settings.ts';

interface RuntimeComponents {
  readonly clock: Clock;
  readonly logOf: (room: string) => Logger;
  readonly random: () => number;
  readonly witness: Witness;
  /** What the hub is to be told. */
  readonly onReport: (report: RuntimeReport) => void;
  /** What stands in the way of a tuning changed. */
  readonly onProblems: () => void;
}

export interface NodeRuntime {
  readonly runtime: CriRuntime;
  readonly fallback: FallbackKeeper;
}

/** Nothing is started. */
export function makeRuntime(
  components: RuntimeComponents,
  init: { readonly settings: Pick<AgentSettings, 'runtime' | 'mirror'> },
): NodeRuntime {
  const { clock, logOf, random, witness } = components;
  const { criSocket, ...host } = init.settings.runtime;
  const mirror = `http://${formatHostPort(init.settings.mirror)}`;
  const runtime = new CriRuntime(
    {
      clock,
      log: logOf('runtime'),
      random,
      witness,
      connect: async (socket) => {
        const { GrpcConnection } = await import('../runtime/cri/grpc-connection.ts');
        return new GrpcConnection(socket);
      },
      advise: (name) => adviseContainerd({ ...host, registry: SELF_TEST_REGISTRY, mirror }, name),
      onChange: (state) => components.onReport(reportOf(state)),
    },
    { socket: criSocket ?? undefined },
  );
  const fallback = new FallbackKeeper(
    { clock, log: logOf('containerd'), onChange: components.onProblems },
    host,
  );
  return { runtime, fallback };
}

function reportOf({ mirror, runtime, reason, fix }: RuntimeState): RuntimeReport {
  return {
    mirror,
    ...(runtime === null ? {} : { runtime: runtime.slice(0, 200) }),
    ...(reason === null ? {} : { reason: reason.slice(0, 1_000) }),
    ...(fix === null ? {} : { fix: fix.slice(0, 1_000) }),
  };
}
