import { beforeEach, describe, expect, it } from 'vitest';
import { openIndex, type SqliteIndex } from '../../../../../edge/index/sqlite-index.ts';
import { Provenance } from '../../../../../edge/transfer/access/provenance.ts';
import { digestOf } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { HeldBlob } from '../../../../support/peer-fixture.ts';

const BLOB = new HeldBlob(Buffer.from('secret bytes'));
const { key } = BLOB;

/** What the node has of the one blob. */
let held: 'nothing' | 'part' | 'whole';
/** Whose download of it is going on. */
let active: string | undefined;
let index: SqliteIndex;

function provenance(): Provenance {
  const part = Object.assign(Object.create(BLOB), { whole: false });
  return new Provenance({
    table: index.provenance,
    scope: index.scope,
    store: { get: () => (held === 'nothing' ? undefined : held === 'whole' ? BLOB : part) },
    swarms: {
      get: () =>
        active === undefined
          ? undefined
          : Object.assign(Object.create(null), { active: true, target: { registry: active } }),
    },
  });
}

beforeEach(() => {
  index = openIndex(':memory:', { log: silentLogger() });
  held = 'nothing';
  active = undefined;
});

describe('bytes of a blob', () => {
  it('are those of the registry that they came from, while they come, once they are whole, and after a restart', () => {
    const book = provenance();
    expect([book.mayShare('a', key), book.mayShare('b', key)]).toEqual([true, true]);
    book.begin('a', key);
    for (const state of ['part', 'whole'] as const) {
      held = state;
      for (const each of [book, provenance()]) {
        expect([each.mayShare('a', key), each.mayShare('b', key)]).toEqual([true, false]);
      }
    }
    held = 'part';
    active = 'a';
    expect([book.mayShare('a', key), book.mayShare('b', key)]).toEqual([true, false]);
  });

  it('are not those of one that began before and got none of them', () => {
    const book = provenance();
    book.begin('evil', key);
    expect(book.mayShare('a', key)).toBe(true);
    book.begin('a', key);
    held = 'whole';
    expect([book.mayShare('a', key), book.mayShare('evil', key)]).toEqual([true, false]);
    expect(provenance().mayShare('evil', key)).toBe(false);
  });

  it('are not mixed with what another registry is being asked for', () => {
    const book = provenance();
    book.begin('evil', key);
    active = 'evil';
    expect(book.mayShare('a', key)).toBe(false);
  });

  it('are also those of one that has shown all of them, for ever', () => {
    const book = provenance();
    book.begin('a', key);
    held = 'whole';
    book.prove('b', key);
    expect(book.mayShare('b', key)).toBe(true);
    held = 'nothing';
    book.begin('evil', key);
    held = 'part';
    expect([book.mayShare('b', key), book.mayShare('evil', key)]).toEqual([true, true]);
    // Bytes of the one that has shown them take the place of whatever the other began.
    book.begin('b', key);
    held = 'whole';
    expect([book.mayShare('b', key), book.mayShare('evil', key)]).toEqual([true, false]);
  });

  it('are nobody’s secret where a repository open to all has them, of a registry that has shown them', () => {
    const book = provenance();
    const put = (registry: string): void => {
      const name = { registry, repository: 'any' };
      index.scope.put(name, [{ digest: key, kind: 'blob', size: 12 }]);
      index.scope.setAccess(name, { openAt: 5 });
    };
    book.begin('a', key);
    held = 'whole';
    put('evil');
    expect(book.mayShare('evil', key)).toBe(false);
    expect(book.mayShare('a', key)).toBe(true);
    put('a');
    expect(book.mayShare('evil', key)).toBe(true);
    index.scope.setAccess({ registry: 'a', repository: 'any' }, { closedAt: 6 });
    expect(book.mayShare('evil', key)).toBe(false);
  });

  it('of different blobs have nothing to do with each other', () => {
    const book = provenance();
    book.begin('a', key);
    held = 'whole';
    const other = digestOf(Buffer.from('other'));
    book.begin('b', other);
    expect(book.mayShare('b', key)).toBe(false);
  });
});

describe('bytes that lie in the container runtime’s file', () => {
  /** The runtime has it whole; of its own this node has what `held` says. */
  function beside(): Provenance {
    const part = Object.assign(Object.create(BLOB), { whole: false });
    return new Provenance({
      table: index.provenance,
      scope: index.scope,
      store: { get: () => BLOB },
      own: { get: () => (held === 'nothing' ? undefined : held === 'whole' ? BLOB : part) },
      swarms: { get: () => undefined },
    });
  }

  it('are nobody’s until the runtime’s word for them is known', () => {
    const book = beside();
    expect(book.place(key)).toBe(false);
    book.adopt(['a'], key);
    for (const each of [book, beside()]) {
      expect(each.place(key)).toBe(true);
      expect([each.mayShare('a', key), each.mayShare('evil', key)]).toEqual([true, false]);
    }
  });

  it('do not become those of a registry that a download was begun from', () => {
    const before = provenance();
    before.begin('evil', key);
    held = 'part';
    const book = beside();
    book.adopt(['a'], key);
    expect(book.place(key)).toBe(true);
    // Now they are served, and there is no second copy.
    held = 'nothing';
    for (const each of [book, beside()]) {
      expect([each.mayShare('evil', key), each.mayShare('a', key)]).toEqual([false, true]);
    }
  });

  it('are those of the registry that this node has fetched all of them from, whatever the runtime calls them', () => {
    provenance().begin('a', key);
    held = 'whole';
    const book = beside();
    book.adopt(['evil'], key);
    expect(book.place(key)).toBe(true);
    held = 'nothing';
    expect([book.mayShare('a', key), book.mayShare('evil', key)]).toEqual([true, false]);
  });
});
