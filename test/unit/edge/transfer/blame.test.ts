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
    for (let n = 2; n <= 5; n++) blame.wrong({ key: blob(n), piece: 0, reader: honest, sender: liar });
    expect(aside).toEqual(['liar']);
  });

  it('are the reader’s, and not theirs who handed them on, where several name it', () => {
    const { blame, aside } = blaming();
    const [a, b] = ['a', 'b'].map(parseNodeName) as [never, never];
    for (let n = 1; n <= 4; n++) blame.wrong({ key: blob(n), piece: 0, reader: liar, sender: a });
    expect(aside).toEqual([]);
    blame.wrong({ key: blob(1), piece: 1, reader: liar, sender: b });
    expect(aside).toEqual(['liar']);
    for (let n = 1; n <= 4; n++) blame.wrong({ key: blob(n), piece: 2, reader: liar, sender: a });
    expect(new Set(aside)).toEqual(new Set(['liar']));
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
    for (let n = 0; n < 300; n++) {
      const [reader, sender] = [parseNodeName(`reader-${n}`), parseNodeName(`other-${n}`)];
      blame.wrong({ key: blob(1), piece: 0, reader, sender });
    }
    for (let n = 2; n <= 5; n++) blame.wrong({ key: blob(n), piece: 0, reader: honest, sender: liar });
    expect(aside).toEqual([]);
  });
});
