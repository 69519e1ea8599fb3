import type { LookupAddress } from 'node:dns';
import { describe, expect, it } from 'vitest';
import { NameLookup, type Resolve } from '../../../../shared/net/name-lookup.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

type Done = Parameters<Resolve>[2];

/** Name servers that answer when a test says so. */
function open() {
  const clock = new ManualClock();
  const asked: { host: string; done: Done }[] = [];
  const names = new NameLookup({ clock }, { resolve: (host, _, done) => void asked.push({ host, done }) });
  const told: string[] = [];
  const ask = (host: string): void =>
    names.resolve(host, { all: true }, (error, found) => {
      told.push(`${host} ${error === null ? found.map(({ address }) => address).join() : error.code}`);
    });
  return { clock, asked, names, told, ask };
}
const at = (address: string): LookupAddress[] => [{ address, family: 4 }];

describe('NameLookup', () => {
  it('asks for a name once, however many want it', () => {
    const { asked, ask, told } = open();
    for (let n = 0; n < 3; n++) ask('a');
    expect(asked).toHaveLength(1);
    asked[0]?.done(null, at('10.0.0.1'));
    expect(told).toEqual(['a 10.0.0.1', 'a 10.0.0.1', 'a 10.0.0.1']);
    ask('a');
    expect(asked).toHaveLength(2);
  });

  it('takes two threads at most; the others wait for their turn while answers come', () => {
    const { asked, ask, names, told } = open();
    for (const host of ['a', 'b', 'c', 'd']) ask(host);
    expect(asked.map(({ host }) => host)).toEqual(['a', 'b']);
    asked[1]?.done(null, at('10.0.0.2'));
    asked[0]?.done(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), []);
    expect(asked.map(({ host }) => host)).toEqual(['a', 'b', 'c', 'd']);
    expect(told).toEqual(['b 10.0.0.2', 'a ENOTFOUND']);
    expect(names.active).toBe(2);
  });

  it('tells at once that nobody answers when its two hang, and goes on when they come back', () => {
    const { asked, ask, clock, told } = open();
    for (const host of ['a', 'b', 'c']) ask(host);
    clock.advance(3_000);
    expect(told.sort()).toEqual(['a EAI_AGAIN', 'b EAI_AGAIN', 'c EAI_AGAIN']);
    told.length = 0;
    for (const host of ['a', 'd']) ask(host);
    expect(told).toEqual(['a EAI_AGAIN', 'd EAI_AGAIN']);
    expect(asked).toHaveLength(2);
    asked[0]?.done(null, at('10.0.0.1'));
    // Told already: late is not twice.
    expect(told).toHaveLength(2);
    ask('d');
    asked[2]?.done(null, at('10.0.0.4'));
    expect(told.at(-1)).toBe('d 10.0.0.4');
    ask('b');
    expect(told.at(-1)).toBe('b EAI_AGAIN');
  });

  it('tells what the system says of a name that there is not: an error, and nothing beside it', () => {
    const { asked, names } = open();
    const told: unknown[] = [];
    names.lookup('a', {}, (error) => told.push(error?.code));
    const [question] = asked;
    if (question !== undefined) {
      Reflect.apply(question.done, undefined, [
        Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }),
      ]);
    }
    expect(told).toEqual(['ENOTFOUND']);
  });

  it('serves sockets: one address or all', () => {
    const { asked, names } = open();
    const told: unknown[] = [];
    names.lookup('a', { all: true }, (error, found) => told.push([error, found]));
    asked[0]?.done(null, at('10.0.0.1'));
    names.lookup('a', {}, (error, address, family) => told.push([error, address, family]));
    asked[1]?.done(null, at('10.0.0.2'));
    names.lookup('a', {}, (error) => told.push(error?.code));
    asked[2]?.done(null, []);
    expect(told).toEqual([[null, at('10.0.0.1')], [null, '10.0.0.2', 4], 'EAI_AGAIN']);
  });
});
