import { afterEach, describe, expect, it } from 'vitest';
import { digestOf } from '../../../../shared/ids.ts';
import { HostileServer, NAME, peerClient } from '../../../support/peer-fixture.ts';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

describe('a question to another pool', () => {
  it.each([
    ['another length', 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour'],
    ['no length', 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nfive!'],
    ['a refusal', 'HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n'],
  ])('for a range that is answered with %s fails before a byte is taken', async (_, text) => {
    const server = new HostileServer((socket) => void socket.write(text));
    await server.start();
    stops.push(() => server.stop());
    const { client } = peerClient();
    stops.push(() => client.close());
    const range = { key: digestOf(Buffer.from('?')), ...NAME, start: 0, end: 5 };
    const asked = client.upstream(server.address, range, AbortSignal.timeout(30_000));
    await expect(asked).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
    await client.close();
    await expect.poll(() => server.open).toBe(0);
  });
});
