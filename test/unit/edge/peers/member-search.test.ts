import { afterEach, describe, expect, it } from 'vitest';
import { MAX_CANDIDATES, PROBE_INTERVAL_MS, QUESTION_TIMEOUT_MS } from '../../../../edge/peers/constants.ts';
import { MemberSearch } from '../../../../edge/peers/member-search.ts';
import type { HelloAnswer } from '../../../../edge/peers/types.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const A = '10.0.0.1:6181';
const B = '10.0.0.2:6181';

/** A search where every address answers, except those that are `silent`. */
function make(init: { unnamed?: string[]; due?: string[]; silent?: string[] } = {}) {
  const clock = new ManualClock();
  const asked: string[] = [];
  const silence: string[] = [];
  const found: { onAnswer?: (address: string) => void } = {};
  const hello = (address: string, signal: AbortSignal): Promise<HelloAnswer> => {
    asked.push(address);
    if (init.silent?.includes(address) !== true) {
      return Promise.resolve({
        node: parseNodeName('node-a'),
        pool: parsePoolName('pool-a'),
        address,
        members: [],
      });
    }
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  const search = new MemberSearch(
    { client: { hello }, clock },
    {
      unnamed: init.unnamed ?? [],
      due: () => init.due ?? [],
      onAnswer: (address) => found.onAnswer?.(address),
      onSilence: (address) => silence.push(address),
    },
  );
  searches.push(search);
  return { clock, search, asked, silence, found };
}

const searches: MemberSearch[] = [];

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('the search for members', () => {
  afterEach(async () => {
    for (const search of searches.splice(0)) await search.stop();
  });

  it('greets an address given by hand until it is known who is there', async () => {
    const { clock, search, asked } = make({ unnamed: [A] });
    search.start();
    await settle();
    clock.advance(PROBE_INTERVAL_MS);
    await settle();
    expect(asked).toEqual([A, A]);
    search.named(A);
    clock.advance(PROBE_INTERVAL_MS);
    await settle();
    expect(asked).toEqual([A, A]);
  });

  it('greets whom an answer names at once, and not without end', async () => {
    const { search, asked, found } = make({ due: [A] });
    let others = 0;
    found.onAnswer = () => search.add([`10.0.1.${others++}:6181`]);
    search.start();
    await settle();
    expect(asked).toEqual([A, '10.0.1.0:6181', '10.0.1.1:6181']);
  });

  it('says who is silent, and that no more candidates fit', async () => {
    const { clock, search, silence } = make({ due: [A], silent: [A] });
    search.start();
    clock.advance(QUESTION_TIMEOUT_MS - 1);
    await settle();
    expect(silence).toEqual([]);
    search.add(Array.from({ length: MAX_CANDIDATES }, (_, n) => `10.0.1.${n}:6181`));
    expect(search.full).toBe(true);
    clock.advance(1);
    await settle();
    expect(silence).toEqual([A]);
    expect(search.full).toBe(false);
  });

  it('ends the greeting that is out when it stops', async () => {
    const { search, asked, silence } = make({ due: [A], silent: [A] });
    search.start();
    await search.stop();
    expect(silence).toEqual([A]);
    search.add([B]);
    await settle();
    expect(asked).toEqual([A]);
  });
});
