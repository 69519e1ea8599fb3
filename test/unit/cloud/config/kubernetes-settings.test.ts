import { describe, expect, it } from 'vitest';
import { loadHubSettings } from '../../../../cloud/config/settings.ts';

describe('settings of a hub on Kubernetes', () => {
  it('none, in a pod, or by a kubeconfig', async () => {
    expect((await loadHubSettings({}, undefined)).kubernetes).toBeUndefined();
    expect((await loadHubSettings({ kubernetes: true }, undefined)).kubernetes).toEqual({
      kubeconfig: undefined,
      namespace: 'kube-system',
    });
    expect((await loadHubSettings({ kubeconfig: 'f', namespace: 'tide' }, undefined)).kubernetes).toEqual({
      kubeconfig: 'f',
      namespace: 'tide',
    });
  });

  it.each([
    [{ kubernetes: true, kubeconfig: 'f' }, /choose one/],
    [{ kubernetes: true, documents: 'd' }, /not from both/],
    [{ kubeconfig: 'f', documents: 'd' }, /not from both/],
    [{ kubernetes: true, namespace: 'No Such' }, /not a namespace/],
  ])('refuses %j', async (flags, message) => {
    await expect(loadHubSettings(flags, undefined)).rejects.toThrow(message);
  });
});
