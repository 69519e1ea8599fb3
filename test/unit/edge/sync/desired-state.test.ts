import { beforeEach, describe, expect, it } from 'vitest';
import { DesiredState } from '../../../../edge/sync/desired-state.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { type PrefetchMessage, prefetchMessage } from '../../../../shared/wire/messages/prefetch.ts';
import { type RosterMessage, rosterMessage } from '../../../../shared/wire/messages/roster.ts';
import { tuningMessage } from '../../../../shared/wire/messages/tuning.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

const node = parseNodeName('n1');
let documents: MemoryDocuments;
const open = (pool = 'p'): DesiredState =>
  new DesiredState({ documents, log: silentLogger() }, { node, pool: parsePoolName(pool) });
const tuning = (epoch: number, version: number, hash: string) =>
  tuningMessage.parse({ epoch, version, hash, settings: {} });
const shard = (
  epoch: number,
  version: number,
  part: number,
  parts: number,
  ...names: string[]
): RosterMessage =>
  rosterMessage.parse({
    epoch,
    version,
    shard: part,
    shards: parts,
    nodes: names.map((name) => ({ node: name })),
  });
const job = (id: string, epoch = 1, more: object = {}): PrefetchMessage =>
  prefetchMessage.parse({ epoch, id, generation: 1, images: [{ image: 'r.test/a:1' }], ...more });
const ids = (jobs: readonly PrefetchMessage[]): string => jobs.map(({ id }) => id).join();

beforeEach(() => {
  documents = new MemoryDocuments();
});

describe('DesiredState', () => {
  it('forgets what was said to the pool that the node came from, but not which hub was heard', () => {
    const before = open('a');
    before.setTuning(tuning(2, 9, 'of a'));
    before.addRosterShard(shard(2, 9, 0, 1, 'n1', 'n2'));
    before.setJob(job('of-a', 2));
    const state = open('b');
    const heard: string[] = [];
    state.onTuning(({ hash }) => heard.push(hash));
    state.onRoster(({ nodes }) => heard.push(nodes.map((each) => each.node).join()));
    state.onPrefetch((jobs) => heard.push(`jobs ${ids(jobs)}`));
    expect(heard).toEqual(['jobs ']);
    expect(state.epoch).toBe(2);
    // Numbers of another pool: lower than those of the old one, and new here.
    state.setTuning(tuning(2, 1, 'of b'));
    state.addRosterShard(shard(2, 1, 0, 1, 'n1', 'n7'));
    expect(heard).toEqual(['jobs ', 'of b', 'n1,n7']);
    const again = open('b');
    again.onTuning(({ hash }) => heard.push(hash));
    expect(heard.at(-1)).toBe('of b');
  });

  it('takes newer tuning, and refuses what an older hub says', () => {
    const state = open();
    const heard: string[] = [];
    state.onTuning(({ hash }) => heard.push(hash));
    state.setTuning(tuning(2, 1, 'a'));
    state.setTuning(tuning(2, 1, 'a'));
    state.setTuning(tuning(2, 3, 'b'));
    state.setTuning(tuning(2, 2, 'late'));
    expect(() => state.setTuning(tuning(1, 99, 'old'))).toThrow(/epoch 1 is over, 2 was heard already/);
    // A new hub starts its versions anew.
    state.setTuning(tuning(3, 1, 'c'));
    expect(heard).toEqual(['a', 'b', 'c']);
  });

  it('does not apply again what a restarted hub repeats', () => {
    const state = open();
    const heard: string[] = [];
    state.onTuning(({ hash }) => heard.push(hash));
    state.setTuning(tuning(1, 4, 'same'));
    state.setTuning(tuning(2, 1, 'same'));
    expect(heard).toEqual(['same']);
    // But it is of the new epoch now.
    expect(() => state.setTuning(tuning(1, 5, 'old'))).toThrow();
  });

  it('puts rosters together from shards of one version', () => {
    const state = open();
    const heard: string[] = [];
    state.onRoster(({ nodes }) => heard.push(nodes.map(({ node: name }) => name).join()));
    state.addRosterShard(shard(1, 1, 1, 2, 'b'));
    expect(heard).toEqual([]);
    // The pool changed in between: half of the old roster is worth nothing.
    state.addRosterShard(shard(1, 2, 0, 3, 'a'));
    state.addRosterShard(shard(1, 1, 0, 2, 'a'));
    state.addRosterShard(shard(1, 2, 2, 3, 'c'));
    expect(heard).toEqual([]);
    state.addRosterShard(shard(1, 2, 1, 3, 'b'));
    expect(heard).toEqual(['a,b,c']);
    // The broker repeats what it retains, with a left-over shard of the larger roster.
    state.addRosterShard(shard(1, 2, 1, 3, 'b'));
    state.addRosterShard(shard(1, 3, 0, 1, 'a'));
    state.addRosterShard(shard(1, 2, 2, 3, 'c'));
    expect(heard).toEqual(['a,b,c', 'a']);
  });

  it('refuses rosters that cannot be', () => {
    const state = open();
    let heard = 0;
    state.onRoster(() => heard++);
    state.addRosterShard(shard(1, 1, 5, 2, 'a'));
    state.addRosterShard(shard(1, 1, 0, 100_000, 'a'));
    expect(heard).toBe(0);
  });

  it('tells all jobs of this node whenever one changes', () => {
    const state = open();
    const heard: string[] = [];
    state.onPrefetch((jobs) => heard.push(ids(jobs)));
    state.setJob(job('a'));
    state.setJob(job('a'));
    state.setJob(job('a', 2));
    state.setJob(job('b', 2, { nodes: ['n2'] }));
    state.setJob(job('b', 2, { nodes: ['n2', 'n1'] }));
    state.removeJob('a');
    state.removeJob('a');
    expect(heard).toEqual(['a', 'a', 'a,b', 'b']);
  });

  it('tells what all jobs of the pool say of tags, also after a restart and also those of other nodes', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const images = [{ image: 'r.test/a:1', digest }];
    const heard: string[] = [];
    const state = open();
    state.onPins((pins) => heard.push(pins.map(({ repository, tag }) => `${repository}:${tag}`).join()));
    state.setJob(job('mine', 1, { images }));
    state.setJob(job('theirs', 1, { nodes: ['n2'], images: [{ image: 'r.test/b', digest }] }));
    open().onPins((pins) => expect(pins.map((pin) => pin.digest)).toEqual([digest, digest]));
    state.removeJob('mine');
    expect(heard).toEqual(['', 'a:1', 'a:1,b:latest', 'b:latest']);
  });

  it('drops what is no longer listed, but not what came on this connection', () => {
    const first = open();
    first.setJob(job('kept'));
    first.setJob(job('gone'));
    const state = open();
    const heard: string[] = [];
    state.onPrefetch((jobs) => heard.push(ids(jobs)));
    state.beginSession();
    state.setJob(job('kept'));
    // Newer than the list that the broker sends after it.
    state.setJob(job('new'));
    state.setJobIndex({ epoch: 1, version: 1, ids: ['kept'] });
    expect(heard.at(-1)).toBe('kept,new');
    state.setJobIndex({ epoch: 1, version: 2, ids: ['kept', 'new'] });
    state.beginSession();
    state.setJobIndex({ epoch: 1, version: 3, ids: ['new'] });
    expect(heard.at(-1)).toBe('new');
    expect(documents.list('sync/job/').map(({ name }) => name)).toEqual(['sync/job/new']);
  });

  it('knows all of it after a restart, and tells it to whoever asks', () => {
    const before = open();
    before.setTuning(tuning(7, 1, 'a'));
    before.addRosterShard(shard(7, 1, 0, 1, 'n1', 'n2'));
    before.setJob(job('j', 7));
    const state = open();
    const heard: unknown[] = [];
    state.onTuning(({ hash }) => heard.push(hash));
    state.onRoster(({ nodes }) => heard.push(nodes.length));
    state.onPrefetch((jobs) => heard.push(ids(jobs)));
    expect(heard).toEqual(['a', 2, 'j']);
    expect(() => state.setTuning(tuning(6, 9, 'old'))).toThrow(/epoch 6 is over/);
  });

  it('says nothing before it knows anything: silence is no order to drop jobs', () => {
    let heard = 0;
    open().onPrefetch(() => heard++);
    expect(heard).toBe(0);
  });

  it('leaves out kept documents that it cannot read', () => {
    documents.put('sync/tuning', { hash: 5 });
    documents.put('sync/epoch', 'x');
    documents.put('sync/roster', [1]);
    documents.put('sync/job/j', {});
    const state = open();
    let heard = 0;
    state.onTuning(() => heard++);
    state.onRoster(() => heard++);
    state.onPrefetch(() => heard++);
    expect([heard, state.epoch]).toEqual([0, 0]);
  });

  it('works by what it hears also where nothing can be kept', () => {
    documents.put = () => {
      throw new Error('disk full');
    };
    const state = open();
    const heard: string[] = [];
    state.onTuning(({ hash }) => heard.push(hash));
    state.setTuning(tuning(1, 1, 'a'));
    expect(heard).toEqual(['a']);
  });

  it('a part that fails keeps nothing from the others', () => {
    const state = open();
    const heard: string[] = [];
    state.onTuning(() => {
      throw new Error('broken part');
    });
    state.onTuning(({ hash }) => heard.push(hash));
    state.setTuning(tuning(1, 1, 'a'));
    expect(heard).toEqual(['a']);
  });

  it('remembers a bounded number of jobs', () => {
    const state = open();
    for (let i = 0; i < 1_000; i++) state.setJob(job(`j${i}`));
    expect(() => state.setJob(job('one-more'))).toThrow(/1000 prefetch jobs/);
    state.setJob(job('j5', 1, { suspend: true }));
  });
});
