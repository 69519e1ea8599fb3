import { describe, expect, it } from 'vitest';
import { API_AUDIENCE, KubeApiCallers } from '../../../../cloud/kube/api-callers.ts';
import { KubeError } from '../../../../cloud/kube/kube-error.ts';
import type { Role } from '../../../../shared/wire/api.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const USER = 'system:serviceaccount:ops:deployer';

/** A cluster that knows one token, and gives its user these verbs. */
function cluster(verbs: readonly string[], audiences: readonly string[] = [API_AUDIENCE]) {
  const asked: string[] = [];
  const bodies: unknown[] = [];
  const state = { verbs, down: false, forbidden: false };
  const client = {
    async json(_method: string, { path, body }: { path: string; body?: unknown }): Promise<unknown> {
      await Promise.resolve();
      if (state.down) throw new KubeError('away', { httpStatus: 0 });
      if (state.forbidden) throw new KubeError('no', { httpStatus: 403 });
      const { spec } = body as { spec: { token?: string; resourceAttributes: { verb: string } } };
      bodies.push(body);
      if (path.endsWith('/tokenreviews')) {
        asked.push('token');
        const known = spec.token === 'good';
        return known
          ? {
              status: {
                authenticated: true,
                audiences,
                user: { username: USER, uid: 'u1', groups: ['system:serviceaccounts'], extra: { k: ['v'] } },
              },
            }
          : { status: { authenticated: false, error: 'unknown' } };
      }
      const { verb } = spec.resourceAttributes;
      asked.push(verb);
      return { status: { allowed: state.verbs.includes(verb) } };
    },
  };
  return { asked, bodies, state, client };
}

function start(verbs: readonly string[], audiences?: readonly string[]) {
  const clock = new ManualClock();
  const kube = cluster(verbs, audiences);
  return { clock, ...kube, callers: new KubeApiCallers({ clock, client: kube.client }) };
}

describe('the cluster’s tokens', () => {
  it('may what RBAC gives their user on tidepool.dev/hub', async () => {
    const { callers, bodies } = start(['get', 'create']);
    const allowed = async (role: Role) => await callers.identify('good', role);
    expect(await allowed('view')).toEqual({ name: USER, allowed: true });
    expect(await allowed('operate')).toEqual({ name: USER, allowed: true });
    expect(await allowed('admin')).toEqual({ name: USER, allowed: false });
    expect(bodies[0]).toMatchObject({
      kind: 'TokenReview',
      spec: { token: 'good', audiences: ['tidepool-hub-api'] },
    });
    expect(bodies[1]).toMatchObject({
      kind: 'SubjectAccessReview',
      spec: {
        user: USER,
        uid: 'u1',
        groups: ['system:serviceaccounts'],
        extra: { k: ['v'] },
        resourceAttributes: { group: 'tidepool.dev', resource: 'hub', verb: 'get' },
      },
    });
  });

  it('are nobody’s when they are unknown, or were made for another audience', async () => {
    expect(await start(['get']).callers.identify('bad', 'view')).toBeUndefined();
    for (const audiences of [[], ['https://kubernetes.default.svc']]) {
      const { callers, asked } = start(['get'], audiences);
      expect(await callers.identify('good', 'view')).toBeUndefined();
      expect(asked).toEqual(['token']);
    }
  });

  it('are asked about once while many come, and again when the answer has aged', async () => {
    const { callers, asked, clock, state } = start(['get']);
    await Promise.all(Array.from({ length: 20 }, () => callers.identify('good', 'view')));
    await callers.identify('good', 'view');
    expect(asked).toEqual(['token', 'get']);
    state.verbs = [];
    clock.advance(9_999);
    expect(await callers.identify('good', 'view')).toMatchObject({ allowed: true });
    clock.advance(1);
    expect(await callers.identify('good', 'view')).toMatchObject({ allowed: false });
    state.verbs = ['get'];
    clock.advance(1_999);
    expect(await callers.identify('good', 'view')).toMatchObject({ allowed: false });
    clock.advance(1);
    expect(await callers.identify('good', 'view')).toMatchObject({ allowed: true });
  });

  it('open nothing while the cluster cannot be asked, and that is not remembered', async () => {
    const { callers, state } = start(['get']);
    state.down = true;
    await expect(callers.identify('good', 'view')).rejects.toMatchObject({ code: 'KUBE_UNREACHABLE' });
    state.down = false;
    state.forbidden = true;
    await expect(callers.identify('good', 'view')).rejects.toMatchObject({ code: 'KUBE_ERROR' });
    state.forbidden = false;
    expect(await callers.identify('good', 'view')).toMatchObject({ allowed: true });
  });

  it('cost a bounded memory and a bounded number of questions', async () => {
    const { callers, asked } = start([]);
    const answers = await Promise.allSettled(
      Array.from({ length: 200 }, (_each, index) => callers.identify(`t${index}`, 'view')),
    );
    expect(asked).toHaveLength(64);
    expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(136);
  });
});
