import { describe, expect, it } from 'vitest';
import {
  formatPlatform,
  hostPlatform,
  parsePlatform,
  selectPlatform,
} from '../../../../edge/prefetch/platform.ts';

const entries = (...texts: (string | undefined)[]) =>
  texts.map((text) => ({ text, platform: text === undefined ? undefined : parsePlatform(text) }));
const choose = (wanted: string, ...texts: (string | undefined)[]) =>
  selectPlatform(entries(...texts), parsePlatform(wanted))?.text;

describe('hostPlatform', () => {
  it.each([
    ['x64', undefined, 'linux/amd64'],
    ['arm64', undefined, 'linux/arm64/v8'],
    ['arm', undefined, 'linux/arm/v7'],
    ['arm', '6', 'linux/arm/v6'],
    ['ia32', undefined, 'linux/386'],
    ['ppc64', undefined, 'linux/ppc64le'],
    ['s390x', undefined, 'linux/s390x'],
    ['riscv64', undefined, 'linux/riscv64'],
  ])('of %s %s is %s', (arch, version, expected) => {
    expect(formatPlatform(hostPlatform(arch, version))).toBe(expected);
  });
});

describe('parsePlatform', () => {
  it.each(['linux', 'linux/', '/amd64', 'linux/arm/v7/x', 'linux/arm/', 'Linux/amd64', ''])(
    'refuses %j',
    (text) => {
      expect(() => parsePlatform(text)).toThrow('not a platform');
    },
  );
});

describe('selectPlatform', () => {
  it('takes the node’s own', () => {
    expect(choose('linux/amd64', 'linux/arm64', 'linux/amd64', 'windows/amd64')).toBe('linux/amd64');
    expect(choose('linux/arm64/v8', 'linux/amd64', 'linux/arm64')).toBe('linux/arm64');
    expect(choose('linux/arm64', 'linux/arm64/v8')).toBe('linux/arm64/v8');
  });

  it('takes the best variant that runs', () => {
    expect(choose('linux/arm/v7', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm/v8')).toBe('linux/arm/v6');
    expect(choose('linux/arm/v7', 'linux/arm/v6', 'linux/arm')).toBe('linux/arm');
    expect(choose('linux/arm/v6', 'linux/arm/v7', 'linux/arm')).toBeUndefined();
    expect(choose('linux/amd64', 'linux/amd64/v3', 'linux/amd64/v2')).toBeUndefined();
    expect(choose('linux/amd64/v3', 'linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4')).toBe(
      'linux/amd64/v2',
    );
    expect(choose('linux/arm64/v8', 'linux/arm64/v8.1', 'linux/arm64/v8')).toBe('linux/arm64/v8');
  });

  it('takes the first of equals, and neither attestations nor what says nothing beside those that do', () => {
    const two = entries('linux/amd64', 'linux/amd64');
    expect(selectPlatform(two, parsePlatform('linux/amd64'))).toBe(two[0]);
    expect(choose('linux/amd64', undefined, 'linux/arm64')).toBeUndefined();
    expect(choose('linux/amd64', undefined, 'linux/amd64')).toBe('linux/amd64');
    expect(choose('linux/amd64', 'unknown/unknown')).toBeUndefined();
    expect(choose('linux/amd64')).toBeUndefined();
  });

  it('takes the first of an index that says nothing at all', () => {
    const silent = entries('unknown/unknown', undefined, undefined);
    expect(selectPlatform(silent, parsePlatform('linux/amd64'))).toBe(silent[1]);
  });

  it('compares variants that are no versions by their names', () => {
    expect(choose('linux/mips/hard', 'linux/mips/soft', 'linux/mips/hard')).toBe('linux/mips/hard');
    expect(choose('linux/mips/hard', 'linux/mips/soft')).toBeUndefined();
  });
});
