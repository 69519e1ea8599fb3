import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeSealKey, openSealed, parseSealKey, seal } from '../../../../shared/trust/seal.ts';

const key = makeSealKey();
const context = 'credentials alpha n1 job 7';

describe('what is sealed', () => {
  it('opens for its reader in its context, and never looks the same twice', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), fc.string(), (content, about) => {
        const sealed = seal(content, key.publicKey, about);
        expect(openSealed(sealed, key.privateKey, about)).toEqual(Buffer.from(content));
        expect(seal(content, key.publicKey, about)).not.toBe(sealed);
      }),
      { seed: 5, numRuns: 50 },
    );
  });

  it('does not open for another, in another context, or changed by a bit', () => {
    const sealed = seal(Buffer.from('secret'), key.publicKey, context);
    const no = { code: 'SIGNATURE_WRONG' };
    const opening = (text: string, privateKey = key.privateKey, about = context): unknown => {
      try {
        return openSealed(text, privateKey, about);
      } catch (error) {
        return error;
      }
    };
    expect(opening(sealed, makeSealKey().privateKey)).toMatchObject(no);
    expect(opening(sealed, key.privateKey, 'credentials alpha n2 job 7')).toMatchObject(no);
    const bytes = Buffer.from(sealed, 'base64');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(opening(changed.toString('base64'))).toMatchObject(no);
    }
    for (const text of ['', 'x', sealed.slice(0, 60), 'A'.repeat(1_000_000)]) {
      expect(opening(text)).toMatchObject(no);
    }
  });

  it('is made for keys of P-256 only', () => {
    expect(parseSealKey(key.publicKey)).toBe(key.publicKey);
    for (const text of ['', 'x', 'A'.repeat(124), 'A'.repeat(1_000_000)]) {
      expect(() => parseSealKey(text)).toThrow(/not a key to seal for/);
    }
  });
});
