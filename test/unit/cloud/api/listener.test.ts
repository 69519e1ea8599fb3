import { connect as connectPlain, type Socket } from 'node:net';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { type Limits, Listener } from '../../../../cloud/api/listener.ts';
import { TestAuthority } from '../../../support/trust.ts';

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

async function start(limits: Limits) {
  const identity = await (await TestAuthority.make()).hub();
  const listener = new Listener((_request, response) => response.end('yes'), { identity }, limits);
  await new Promise<void>((resolve) => listener.server.listen(0, '127.0.0.1', resolve));
  const address = listener.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  open.push(() => {
    listener.server.closeAllConnections();
    listener.server.close();
    listener.close();
  });
  const kept = <T extends Socket>(socket: T): T => {
    socket.on('error', () => undefined);
    open.push(() => socket.destroy());
    return socket;
  };
  return {
    dial: () =>
      new Promise<Socket>((resolve) => {
        const socket = kept(
          connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => resolve(socket)),
        );
      }),
    plain: () => kept(connectPlain(port, '127.0.0.1')),
  };
}
/** What it says until it closes the connection. */
const last = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
  });

describe('the socket of the API', () => {
  it('waits for nobody who drips a header or a body', async () => {
    const { dial } = await start({ headersMs: 100, requestMs: 200, checkMs: 20 });
    const [header, body] = [await dial(), await dial()];
    header.write('GET / HTTP/1.1\r\nhost: x\r\nx: ');
    body.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{');
    expect(await last(header)).toMatch(/^HTTP\/1\.1 408/);
    const answer = await last(body);
    expect(answer).toMatch(/408|200/);
  });

  it('takes only so many connections of one address, and more when some have gone', async () => {
    const { dial, plain } = await start({ perSource: 2 });
    const [first] = [await dial(), await dial()];
    await last(plain());
    first.destroy();
    for (let tries = 0; ; tries++) {
      const socket = plain();
      const gone = await Promise.race([
        last(socket).then(() => true),
        new Promise<false>((resolve) => setTimeout(() => resolve(false), 200)),
      ]);
      if (!gone) break;
      expect(tries).toBeLessThan(20);
    }
  });
});
