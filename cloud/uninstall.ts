/** What the chart's uninstall hook runs: builds the client of the cluster and puts it to work. */
import type { Clock } from '../shared/clock.ts';
import { inClusterAccess } from './kube/access.ts';
import { KubeClient } from './kube/kube-client.ts';
import { kubeconfigAccess } from './kube/kubeconfig.ts';
import { parseRestoreDaemonSet, type Restored, restoreContainerd } from './kube/restore-containerd.ts';

/** @throws TidepoolError INVALID_CONFIG outside of a pod, or for what is no such DaemonSet; KubeError */
export async function restoreEverywhere(
  c: {
    readonly clock: Clock;
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly version: string;
    readonly say: (text: string) => void;
  },
  init: {
    readonly daemonSet: unknown;
    readonly insteadOf: string;
    readonly timeoutMs: number;
    /** Outside of a pod. */
    readonly kubeconfig: string | undefined;
    readonly signal: AbortSignal;
  },
): Promise<Restored> {
  const daemonSet = parseRestoreDaemonSet(init.daemonSet);
  const { clock, env, version, say } = c;
  const access =
    init.kubeconfig === undefined
      ? await inClusterAccess(clock, env)
      : await kubeconfigAccess(clock, init.kubeconfig, env);
  const client = new KubeClient({ clock, access }, { userAgent: `tidepool-hub/${version}` });
  try {
    const { insteadOf, timeoutMs, signal } = init;
    return await restoreContainerd({ client, clock, say }, { daemonSet, insteadOf, timeoutMs, signal });
  } finally {
    await client.stop();
  }
}
