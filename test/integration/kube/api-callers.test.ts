/** What RBAC says of the hub's API, asked of a real API server: the double knows no tokens. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { API_AUDIENCE, KubeApiCallers } from '../../../cloud/kube/api-callers.ts';
import type { KubeClient } from '../../../cloud/kube/kube-client.ts';
import { systemClock } from '../../../shared/clock.ts';
import { findApiServer, type TestApiServer } from '../../support/kube/api-server.ts';
import { Cluster, clientOf, NAMESPACE } from '../../support/kube/fixtures.ts';
import { takeApiServer } from '../../support/kube/shared-api-server.ts';

const found = findApiServer();
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const account = `system:serviceaccount:${NAMESPACE}:deployer`;

describe.skipIf('missing' in found)('the cluster’s tokens, on kube-apiserver', () => {
  let server: TestApiServer;
  let client: KubeClient;

  beforeAll(async () => {
    if ('missing' in found) return;
    server = await takeApiServer(found);
    await new Cluster(server).namespaces(NAMESPACE);
    client = await clientOf(server.kubeconfig);
    await server.call('POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`, {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'deployer' },
    });
    await server.call('POST', `${RBAC}/clusterroles`, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'tidepool-operate' },
      rules: [{ apiGroups: ['tidepool.dev'], resources: ['hub'], verbs: ['get', 'create'] }],
    });
    await server.call('POST', `${RBAC}/clusterrolebindings`, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'tidepool-operate' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'tidepool-operate' },
      subjects: [{ kind: 'ServiceAccount', name: 'deployer', namespace: NAMESPACE }],
    });
  }, 120_000);
  afterAll(() => server?.close());

  const token = async (audience: string): Promise<string> => {
    const path = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/deployer/token`;
    const answer = (await server.call('POST', path, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: [audience] },
    })) as { status: { token: string } };
    return answer.status.token;
  };

  it('are good for what their role’s verbs on tidepool.dev/hub say', async () => {
    const callers = new KubeApiCallers({ clock: systemClock, client });
    const good = await token(API_AUDIENCE);
    expect(await callers.identify(good, 'view')).toEqual({ name: account, allowed: true });
    expect(await callers.identify(good, 'operate')).toEqual({ name: account, allowed: true });
    expect(await callers.identify(good, 'admin')).toEqual({ name: account, allowed: false });
  });

  it('are worth nothing when they were made for the API server, or are none', async () => {
    const callers = new KubeApiCallers({ clock: systemClock, client });
    const forServer = await token('https://kubernetes.default.svc.cluster.local');
    const good = await token(API_AUDIENCE);
    expect(await callers.identify(forServer, 'view')).toBeUndefined();
    expect(await callers.identify(`${good.slice(0, -4)}AAAA`, 'view')).toBeUndefined();
    expect(await callers.identify('nonsense', 'view')).toBeUndefined();
  });

  it('are the cluster’s to judge, and the hub says so where it may not ask', async () => {
    const weak = await clientOf(await server.kubeconfigFor('weak', []));
    const callers = new KubeApiCallers({ clock: systemClock, client: weak });
    await expect(callers.identify(await token(API_AUDIENCE), 'view')).rejects.toMatchObject({
      code: 'KUBE_ERROR',
      message: expect.stringContaining('tokenreviews'),
    });
  });
});
