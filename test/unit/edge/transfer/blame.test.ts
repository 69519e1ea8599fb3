import { describe, expect, it } from 'vitest';
import { Blame } from '../../../../edge/transfer/blame.ts';
import { type BlobKey, digestOf, parseNodeName } from '../../../../shared/ids.ts';

const [self, honest, liar] = ['self', 'honest', 'liar'].map(parseNodeName) as [never, never, never];
const blob = (n: number): BlobKey => digestOf(Buffer.from(`blob ${n}`));

function blaming() {
  const aside: string[] = [];
  const blame = new Blame({ members: { self, setAside: (node) => aside.push(node) } });
  return { blame, aside };
}

describe('wrong bytes', () => {
  it('are held against the reader that gave them itself', () => {
    const { blame, aside } = blaming();
    blame.wrong({ key: blob(1), piece: 0, reader: liar, sender: liar });
    expect(aside).toEqual(['liar']);
  });

  it('cost a member nothing whose name somebody else wrote into the claim', () => {
    const { blame, aside } = blaming();
    for (let piece = 0; piece < 5; piece++)
      blame.wrong({ key: blob(1), piece, reader: honest, sender: liar });
    expect(aside).toEqual([]);
    blame.wrong({ key: blob(2), piece: 0, reader: honest, sender: liar });
    expect(aside).toEqual(['liar']);
  });

  it('of this node, or of before, are nobody’s', () => {
    const { blame, aside } = blaming();
    blame.wrong({ key: blob(1), piece: 0, reader: self, sender: undefined });
    blame.wrong({ key: blob(1), piece: 1, reader: honest, sender: undefined });
    blame.wrong({ key: blob(1), piece: 2, reader: self, sender: self });
    expect(aside).toEqual([]);
  });

  it('do not make it remember every member that ever handed some on', () => {
    const { blame, aside } = blaming();
    blame.wrong({ key: blob(1), piece: 0, reader: honest, sender: liar });
    for (let n = 0; n < 300; n++)
      blame.wrong({ key: blob(1), piece: 0, reader: honest, sender: parseNodeName(`other-${n}`) });
    blame.wrong({ key: blob(2), piece: 0, reader: honest, sender: liar });
    expect(aside).toEqual([]);
  });
});
