import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { requireLocal } from '../../../../edge/ops/requests.ts';

function from(remoteAddress: string | undefined, localAddress = '10.0.0.7'): IncomingMessage {
  return { socket: { remoteAddress, localAddress } } as IncomingMessage;
}

describe('requireLocal', () => {
  it.each(['127.0.0.1', '127.0.3.4', '::1', '::ffff:127.0.0.1', '10.0.0.7'])('lets %s in', (address) => {
    expect(() => requireLocal(from(address))).not.toThrow();
  });

  it.each(['10.0.0.8', '::ffff:10.0.0.8', '1127.0.0.1', undefined])('keeps %s out', (address) => {
    expect(() => requireLocal(from(address))).toThrow('the host itself');
  });
});
