import { describe, expect, it } from 'vitest';
import { parseKeyId } from '../../../../shared/trust/certificate.ts';
import { formatJoinToken, parseJoinToken } from '../../../../shared/trust/join-token.ts';

const token = { id: 'k3v9x0aa', secret: 'S'.repeat(32), authority: parseKeyId('ab'.repeat(32)) };

describe('a join token', () => {
  it('is read as it was written, blanks around it aside', () => {
    expect(parseJoinToken(` ${formatJoinToken(token)}\n`)).toEqual(token);
  });

  it.each([
    '',
    'tp1',
    'tp2.k3v9x0aa.s.a',
    `tp1.short.${token.secret}.${token.authority}`,
    `${formatJoinToken(token)}.more`,
    `tp1.${token.id}.${'S'.repeat(31)}.${token.authority}`,
    `tp1.${token.id}.${token.secret}.abc`,
  ])('is refused when it is %j, and not repeated', (text) => {
    expect(() => parseJoinToken(text)).toThrow(/not a join token|not the id of a key/);
    try {
      parseJoinToken(text);
    } catch (error) {
      expect(String(error)).not.toContain('SSSS');
    }
  });
});
