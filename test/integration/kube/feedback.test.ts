import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { Feedback, Leadership, PrefetchStatus } from '../../../cloud/desired/types.ts';
import { KubeFeedback } from '../../../cloud/kube/kube-feedback.ts';
import { KubePullSecrets } from '../../../cloud/kube/pull-secrets.ts';
import { systemClock } from '../../../shared/clock.ts';
import { silentLogger } from '../../../shared/log.ts';
import { eventually } from '../../support/hub-fixture.ts';
import { describeApiServers } from '../../support/kube/both.ts';
import { Cluster, clientOf, type Followed, follow, NAMESPACE } from '../../support/kube/fixtures.ts';

const status = (more: Partial<PrefetchStatus> = {}): PrefetchStatus => ({
  observedGeneration: 1,
  desired: 3,
  active: 1,
  succeeded: 0,
  failed: 0,
  waiting: 2,
  offline: 0,
  skipped: 0,
  bytes: { wan: 10, peer: 20 },
  pools: [{ name: 'alpha', desired: 3, succeeded: 0, failed: 0, offline: 0, bytes: { wan: 10, peer: 20 } }],
  failedNodes: [],
  conditions: [
    {
      type: 'Complete',
      status: 'False',
      reason: 'Running',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    },
  ],
  ...more,
});
const SPEC = { images: [{ image: 'r.test/a:1' }] };
const DOCKER = 'kubernetes.io/dockerconfigjson';

describeApiServers('feedback to Kubernetes', (server) => {
  let cluster: Cluster;
  let followed: Followed;
  let feedback: KubeFeedback & Feedback;
  const leadership = { leads: true, listeners: new Set<() => void>() };
  const lead = (leads: boolean): void => {
    leadership.leads = leads;
    for (const listener of leadership.listeners) listener();
  };
  const leader: Leadership = {
    get leads() {
      return leadership.leads;
    },
    onChange: (listener) => {
      leadership.listeners.add(listener);
      return () => leadership.listeners.delete(listener);
    },
  };
  const make = (): KubeFeedback =>
    new KubeFeedback(
      {
        clock: systemClock,
        log: silentLogger(),
        client: followed.client,
        leadership: leader,
        about: (subject) => followed.source.about(subject),
      },
      { namespace: NAMESPACE, instance: 'hub-test' },
    );

  beforeAll(async () => {
    cluster = new Cluster(server());
    await cluster.namespaces(NAMESPACE, 'default');
    await cluster.prefetchCrd();
    followed = await follow(server().kubeconfig);
  }, 120_000);
  afterAll(() => followed?.stop());
  beforeEach(() => {
    lead(true);
    feedback = make();
  });
  afterEach(() => feedback.stop());
  const job = async (name: string): Promise<void> => {
    await cluster.prefetch(name, SPEC);
    await eventually(
      () => followed.source.about({ kind: 'ImagePrefetch', name }),
      (about) => about !== undefined,
    );
  };

  it('writes the newest status, few times however often it changes, and not the same one again', async () => {
    await job('newest');
    for (let done = 0; done <= 40; done++) feedback.prefetchStatus('newest', status({ succeeded: done }));
    const written = await eventually(
      () => cluster.prefetchObject('newest'),
      (object) => object.status?.succeeded === 40,
    );
    expect(written.status).toMatchObject({
      desired: 3,
      bytes: { wan: 10, peer: 20 },
      pools: [{ name: 'alpha' }],
    });
    expect(written.metadata.generation).toBe(1);
    feedback.prefetchStatus('newest', status({ succeeded: 40 }));
    // A hub that comes later knows it from the object itself.
    await eventually(() => followed.source.about({ kind: 'ImagePrefetch', name: 'newest' })?.status, Boolean);
    const later = make();
    later.prefetchStatus('newest', status({ succeeded: 40 }));
    await job('barrier');
    later.prefetchStatus('barrier', status());
    feedback.prefetchStatus('barrier', status({ succeeded: 1 }));
    await eventually(
      () => cluster.prefetchObject('barrier'),
      (object) => object.status?.succeeded !== undefined,
    );
    await later.stop();
    expect((await cluster.prefetchObject('newest')).metadata.resourceVersion).toBe(
      written.metadata.resourceVersion,
    );
  });

  it('takes fields out that are over, and leaves the spec alone', async () => {
    await job('over');
    const done = '2026-01-02T00:00:00Z';
    const images = [{ image: 'r.test/a:1', digest: `sha256:${'a'.repeat(64)}` }];
    feedback.prefetchStatus('over', status({ completionTime: done, images }));
    await eventually(
      () => cluster.prefetchObject('over'),
      (object) => object.status?.completionTime === done,
    );
    feedback.prefetchStatus('over', status({ succeeded: 1 }));
    const object = await eventually(
      () => cluster.prefetchObject('over'),
      (found) => found.status?.succeeded === 1,
    );
    expect(object.status).not.toHaveProperty('completionTime');
    expect(object.status).not.toHaveProperty('images');
    expect(object.spec).toMatchObject(SPEC);
  });

  it('says nothing of jobs that Kubernetes does not have, nor while another hub leads', async () => {
    feedback.prefetchStatus('of-the-api', status());
    await job('standby');
    lead(false);
    feedback.prefetchStatus('standby', status());
    feedback.notice({ kind: 'ImagePrefetch', name: 'standby' }, 'Normal', 'Standby', 'nobody hears this');
    feedback.removePrefetch('standby');
    lead(true);
    feedback.prefetchStatus('standby', status({ succeeded: 2 }));
    const object = await eventually(
      () => cluster.prefetchObject('standby'),
      (found) => found.status !== undefined,
    );
    expect(object.status?.succeeded).toBe(2);
    expect((await cluster.events('default')).filter(({ reason }) => reason === 'Standby')).toEqual([]);
    expect(feedback.problems()).toEqual([]);
  });

  it('what waits when the lease is lost is never written', async () => {
    await job('lost');
    for (const name of ['lost', 'standby']) feedback.prefetchStatus(name, status({ failed: 7 }));
    lead(false);
    lead(true);
    await job('after-lost');
    feedback.prefetchStatus('after-lost', status());
    await eventually(
      () => cluster.prefetchObject('after-lost'),
      (object) => object.status !== undefined,
    );
    expect((await cluster.prefetchObject('standby')).status?.failed).not.toBe(7);
  });

  it('a job that was made anew under its name gets no status of the one before', async () => {
    await job('twice');
    const old = (await cluster.prefetchObject('twice')).metadata.uid;
    feedback.prefetchStatus('twice', status({ succeeded: 3 }));
    await eventually(
      () => cluster.prefetchObject('twice'),
      (object) => object.status?.succeeded === 3,
    );
    await cluster.removePrefetch('twice');
    await cluster.prefetch('twice', SPEC);
    await eventually(
      () => followed.source.about({ kind: 'ImagePrefetch', name: 'twice' })?.uid,
      (uid) => uid !== undefined && uid !== old,
    );
    // The same content as before, and yet to be written: the object is another one.
    feedback.prefetchStatus('twice', status({ succeeded: 3 }));
    await eventually(
      () => cluster.prefetchObject('twice'),
      (object) => object.status?.succeeded === 3,
    );
  });

  it('deletes a job, but not its successor', async () => {
    await job('finished');
    feedback.removePrefetch('finished');
    const gone = () =>
      cluster.prefetchObject('finished').then(
        () => false,
        () => true,
      );
    await eventually(gone, (yes) => yes);
  });

  it('notices become Events that kubectl describe finds, each said once', async () => {
    await job('noticed');
    const { uid } = (await cluster.prefetchObject('noticed')).metadata;
    const subject = { kind: 'ImagePrefetch', name: 'noticed' } as const;
    for (let again = 0; again < 5; again++)
      feedback.notice(subject, 'Warning', 'NoSuchImage', 'r.test/a:1 is not there');
    feedback.notice(subject, 'Warning', 'LongStory', 'x'.repeat(5_000));
    feedback.notice({ kind: 'ConfigMap', name: 'tidepool-tuning' }, 'Warning', 'BadEntry', 'wan, line 3');
    const about = () =>
      cluster
        .events('default')
        .then((all) => all.filter(({ involvedObject }) => involvedObject.name === 'noticed'));
    const events = await eventually(about, (all) => all.length >= 2);
    expect(events).toHaveLength(2);
    expect(events).toContainEqual(
      expect.objectContaining({
        reason: 'NoSuchImage',
        type: 'Warning',
        message: 'r.test/a:1 is not there',
        involvedObject: expect.objectContaining({ kind: 'ImagePrefetch', name: 'noticed', uid }),
      }),
    );
    const inMap = await eventually(
      () => cluster.events(NAMESPACE),
      (all) => all.some(({ reason }) => reason === 'BadEntry'),
    );
    expect(inMap.find(({ reason }) => reason === 'BadEntry')?.involvedObject.kind).toBe('ConfigMap');
  });

  it('a flood of notices is cut, and counted', async () => {
    for (let index = 0; index < 200; index++) {
      feedback.notice({ kind: 'Node', name: `n${index}` }, 'Normal', 'Flood', `number ${index}`);
    }
    expect(feedback.unsaid).toBeGreaterThanOrEqual(170);
  });

  it('a right that is missing is a problem with words', async () => {
    await job('denied');
    const client = await clientOf(await server().kubeconfigFor('reader', []));
    const denied = new KubeFeedback(
      {
        clock: systemClock,
        log: silentLogger(),
        client,
        leadership: leader,
        about: (subject) => followed.source.about(subject),
      },
      { namespace: NAMESPACE, instance: 'hub-test' },
    );
    denied.prefetchStatus('denied', status());
    const [problem] = await eventually(
      () => denied.problems(),
      (all) => all.length > 0,
    );
    expect(problem?.message).toMatch(
      /may not write the status of prefetches: .*forbidden.*cannot patch resource "imageprefetches\/status"/,
    );
    await denied.stop();
    await client.stop();
  });
});

describeApiServers('pull secrets', (server) => {
  const auths = {
    'https://index.docker.io/v1/': { auth: Buffer.from('hub-user:hub:pass').toString('base64') },
    'r.test:5000': { username: 'u', password: 'p' },
    'https://other.test/v2/': { auth: Buffer.from('o:q').toString('base64') },
  };
  beforeAll(async () => {
    await new Cluster(server()).namespaces(NAMESPACE, 'default');
    const make = (
      namespace: string,
      name: string,
      type: string,
      data: Record<string, string>,
    ): Promise<unknown> =>
      server().call('POST', `/api/v1/namespaces/${namespace}/secrets`, {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name },
        type,
        data,
      });
    const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64');
    await make(NAMESPACE, 'pull', DOCKER, { '.dockerconfigjson': encoded({ auths }) });
    await make(NAMESPACE, 'empty', DOCKER, { '.dockerconfigjson': encoded({ auths: {} }) });
    await make(NAMESPACE, 'opaque', 'Opaque', { '.dockerconfigjson': encoded({ auths }) });
    await make('default', 'elsewhere', DOCKER, { '.dockerconfigjson': encoded({ auths }) });
  }, 120_000);

  it('gives the entry of the registry, from the first secret that has one', async () => {
    const client = await clientOf(server().kubeconfig);
    const secrets = new KubePullSecrets({ client }, { namespace: NAMESPACE });
    expect(await secrets.account(['empty', 'pull'], 'r.test:5000')).toEqual({ username: 'u', password: 'p' });
    expect(await secrets.account(['pull'], 'docker.io')).toEqual({
      username: 'hub-user',
      password: 'hub:pass',
    });
    expect(await secrets.account(['pull'], 'other.test')).toEqual({ username: 'o', password: 'q' });
    expect(await secrets.account(['pull'], 'unknown.test')).toBeUndefined();
    expect(await secrets.account([], 'r.test:5000')).toBeUndefined();
    await client.stop();
  });

  it('reads no other kind, no other namespace, and says what is missing', async () => {
    const client = await clientOf(server().kubeconfig);
    const secrets = new KubePullSecrets({ client }, { namespace: NAMESPACE });
    const ask = (name: string) => secrets.account([name], 'r.test:5000');
    await expect(ask('opaque')).rejects.toMatchObject({ code: 'NOT_FOUND', message: /of type "Opaque"/ });
    await expect(ask('elsewhere')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: /no secret "elsewhere"/,
    });
    await expect(ask('../pods/x')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await client.stop();
    const rules = [{ apiGroups: [''], resources: ['secrets'], resourceNames: ['pull'], verbs: ['get'] }];
    const narrow = await clientOf(await server().kubeconfigFor('narrow', rules));
    const few = new KubePullSecrets({ client: narrow }, { namespace: NAMESPACE });
    expect(await few.account(['pull'], 'r.test:5000')).toEqual({ username: 'u', password: 'p' });
    await expect(few.account(['empty'], 'r.test:5000')).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: /may not read secret "empty"/,
    });
    await narrow.stop();
  });
});
