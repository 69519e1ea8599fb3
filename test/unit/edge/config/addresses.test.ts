import { describe, expect, it } from 'vitest';
import {
  formatHostPort,
  onlyAddress,
  parseAddress,
  parseHostPort,
} from '../../../../edge/config/addresses.ts';

const lan = (address: string, internal = false, family = 'IPv4') => ({ address, family, internal });

describe('parseHostPort', () => {
  it.each([
    ['127.0.0.1:6180', { host: '127.0.0.1', port: 6180 }],
    ['[fd00::7]:6181', { host: 'fd00::7', port: 6181 }],
    ['0.0.0.0:0', { host: '0.0.0.0', port: 0 }],
  ])('takes %s', (text, expected) => {
    expect(parseHostPort(text)).toEqual(expected);
    expect(formatHostPort(parseHostPort(text))).toBe(text);
  });

  it.each([
    ['node-2:6181', 'literal IP'],
    ['fd00::7', 'brackets'],
    ['[10.0.0.1]:5', 'literal IP'],
    ['10.0.0.1', 'write both'],
    ['10.0.0.1:65536', 'at most 65535'],
    ['10.0.0.1:', 'write both'],
    ['', 'write both'],
    ['10.0.0.256:1', 'literal IP'],
  ])('refuses %j', (text, why) => {
    expect(() => parseHostPort(text)).toThrow(why);
  });
});

describe('parseAddress', () => {
  it('takes literal addresses alone', () => {
    expect(parseAddress('10.0.0.7')).toBe('10.0.0.7');
    expect(parseAddress('[fd00::7]')).toBe('fd00::7');
    expect(() => parseAddress('node-1')).toThrow('literal IP address');
    expect(() => parseAddress('10.0.0.7:6181')).toThrow('without a port');
  });

  it('refuses addresses that stand for all', () => {
    expect(() => parseAddress('0.0.0.0')).toThrow('on the LAN');
    expect(() => parseAddress('::')).toThrow('on the LAN');
  });
});

describe('onlyAddress', () => {
  it('is the one IPv4 address that is not loopback', () => {
    const interfaces = {
      lo: [lan('127.0.0.1', true)],
      eth0: [lan('10.0.0.7'), lan('fe80::1', false, 'IPv6'), lan('169.254.3.4')],
    };
    expect(onlyAddress(interfaces)).toBe('10.0.0.7');
  });

  it('names the flag, and the choice, where it is not clear', () => {
    expect(() => onlyAddress({ lo: [lan('127.0.0.1', true)] })).toThrow('--address');
    const several = { eth0: [lan('10.0.0.7')], wlan0: [lan('192.168.1.9')] };
    expect(() => onlyAddress(several)).toThrow('10.0.0.7 (eth0), 192.168.1.9 (wlan0); say with --address');
  });
});
