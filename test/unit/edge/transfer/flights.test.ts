import { describe, expect, it } from 'vitest';
import type { Flight } from '../../../../edge/transfer/flight.ts';
import { Flights } from '../../../../edge/transfer/flights.ts';

function make() {
  const out = new Map<number, { flight: Flight; land: () => void; crash: (reason: unknown) => void }>();
  const ended: unknown[] = [];
  const flights = new Flights({
    fly: (flight) =>
      new Promise((land, crash) => {
        out.set(flight.piece, { flight, land, crash });
      }),
    onLanded: (piece) => ended.push([piece, flights.get(piece)]),
    onCrashed: (piece, error) => ended.push([piece, flights.get(piece), error]),
  });
  return { flights, out, ended };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('pieces on their way', () => {
  it('are gone before anybody is told that they have landed or crashed', async () => {
    const { flights, out, ended } = make();
    flights.launch(1, 0);
    flights.launch(2, 0);
    const landed = flights.get(1);
    const crashed = flights.get(2)?.done;
    expect(flights.size).toBe(2);
    out.get(1)?.land();
    out.get(2)?.crash('gone');
    await settle();
    expect(ended).toEqual([
      [1, undefined],
      [2, undefined, 'gone'],
    ]);
    expect(landed?.landed).toBe(true);
    await expect(crashed).rejects.toBe('gone');
  });

  it('are claimed when this node reads them, or is about to, and what has come of them is told', () => {
    const { flights, out } = make();
    flights.launch(1, 0);
    flights.launch(2, 0, true);
    flights.launch(3, 0);
    const reading = out.get(3)?.flight;
    if (reading === undefined) throw new Error('not under way');
    reading.via = 'origin';
    expect(flights.read()).toEqual(new Map());
    reading.bytes = 5;
    expect(flights.claimed()).toEqual([2, 3]);
    expect(flights.read()).toEqual(new Map([[3, 5]]));
  });
});
