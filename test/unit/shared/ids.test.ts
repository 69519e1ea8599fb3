import { describe, expect, it } from 'vitest';
import {
  digestOf,
  isDigest,
  parseBlobKey,
  parseDigest,
  parseNodeName,
  parsePoolName,
  quote,
} from '../../../shared/ids.ts';

const HEX = 'ab12'.repeat(16);

describe('digests and keys', () => {
  it('are taken as they are', () => {
    expect(parseDigest(`sha256:${HEX}`)).toBe(`sha256:${HEX}`);
    expect(parseBlobKey(`sha256:${HEX}`)).toBe(`sha256:${HEX}`);
    expect(parseBlobKey(`file:${HEX}`)).toBe(`file:${HEX}`);
  });

  it.each([
    '',
    HEX,
    'sha256:',
    `sha256:${HEX.slice(1)}`,
    `sha256:${HEX}0`,
    `sha256:${HEX.toUpperCase()}`,
    `sha512:${HEX}${HEX}`,
    `sha256:${HEX}\n`,
    ` sha256:${HEX}`,
    `sha256:../${HEX.slice(3)}`,
  ])('%j is neither', (text) => {
    expect(isDigest(text)).toBe(false);
    for (const parse of [parseDigest, parseBlobKey]) {
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'INVALID_DIGEST' }));
    }
  });

  it('of a file are keys, not digests', () => {
    expect(() => parseDigest(`file:${HEX}`)).toThrow(expect.objectContaining({ code: 'INVALID_DIGEST' }));
  });

  it('digestOf is sha256, as OCI names the empty blob', () => {
    expect(digestOf(new Uint8Array())).toBe(
      'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
  });
});

describe('names', () => {
  it.each(['a', 'edge-1', 'edge-1.site.example', '0', 'x'.repeat(253)])('%s is one', (name) => {
    expect(parseNodeName(name)).toBe(name);
    expect(parsePoolName(name)).toBe(name);
  });

  it.each([
    '',
    'A',
    '-a',
    'a-',
    'a..b',
    '..',
    '.a',
    'a/b',
    'a+',
    '#',
    '+',
    'a b',
    'a\n',
    'ü',
    'x'.repeat(254),
  ])('%j is none', (name) => {
    for (const parse of [parseNodeName, parsePoolName]) {
      expect(() => parse(name)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });

  it('are refused quickly however long', () => {
    const started = performance.now();
    expect(() => parseNodeName(`${'a-'.repeat(500_000)}!`)).toThrow();
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

describe('quote', () => {
  it('cuts long text, and lets nothing through that breaks a line or a terminal', () => {
    expect(quote('a\nb\u001b[31m"')).toBe('"a\\nb\\u001b[31m\\""');
    expect(quote('x'.repeat(200))).toBe(`"${'x'.repeat(80)}…"`);
    expect(quote('abcdef', 3)).toBe('"abc…"');
  });
});
