import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { type Exchange, HttpExchange } from '../../edge/peers/exchange.ts';
import { ServedChannel } from '../../edge/peers/served-channel.ts';
import { PATHS } from '../../edge/peers/wire/paths.ts';
import { encodeClaim, parseAsk } from '../../edge/peers/wire/piece.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName } from '../../shared/ids.ts';
import { pieceLength } from '../../shared/pieces.ts';
import { serverTls } from '../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';

/**
 * A member that says it has every blob whole and sends wrong bytes: 'unclaimed' ones differ from its own claim, 'claimed'
 * ones fit it, as those of a node with bad memory do. 'nothing' is what it sends when it has none of what it says.
 */
export class EvilNeighbour {
  /** Pieces that it was asked for. */
  asked = 0;
  readonly #server: Server;
  readonly #channels = new Set<ServedChannel>();

  constructor(init: {
    node: string;
    address: string;
    pool: string;
    lie: 'claimed' | 'unclaimed' | 'nothing';
    /** Plain without one. */
    identity?: TlsIdentity;
    /** What it answers instead, by path. */
    tell?: Readonly<Record<string, unknown>>;
  }) {
    const reader = parseNodeName(init.node);
    const onAsk = (exchange: Exchange): void => {
      const [path, query = ''] = exchange.url.split('?');
      const json = (value: unknown, status = 200): void => {
        const bytes = Buffer.from(JSON.stringify(value));
        exchange.answer(status, { 'content-type': 'application/json' }, bytes);
      };
      const told = init.tell?.[path ?? ''];
      if (told !== undefined) json(told);
      else if (path === PATHS.hello) {
        json({ node: init.node, pool: init.pool, address: init.address, members: [] });
      } else if (path === PATHS.join) {
        json({ onBlob: true, weight: 1, whole: true, have: '', claimed: [] });
      } else if (path === PATHS.piece) {
        this.asked++;
        if (init.lie === 'nothing') {
          json({ kind: 'refused', code: 'NOT_ON_BLOB', message: 'not here' }, 404);
          return;
        }
        const ask = parseAsk(new URLSearchParams(query));
        const bytes = Buffer.alloc(pieceLength(ask.layout, ask.piece), 0x66);
        const claimed = init.lie === 'claimed' ? bytes : Buffer.from('something else');
        const sha256 = createHash('sha256').update(claimed).digest();
        exchange.answer(200, encodeClaim({ sha256, reader, verified: false }), bytes);
      } else exchange.answer(404, {});
    };
    this.#server = init.identity === undefined ? createServer() : createTlsServer(serverTls(init.identity));
    this.#server.on('request', (request, response) => {
      request.resume();
      onAsk(new HttpExchange(request, response));
    });
    this.#server.on('upgrade', (_: IncomingMessage, socket: Socket, early: Buffer) => {
      const channel = new ServedChannel(socket, early, {
        clock: systemClock,
        onAsk,
        onClosed: () => this.#channels.delete(channel),
      });
      this.#channels.add(channel);
    });
  }

  /** @param address `host:port` */
  async start(address: string): Promise<void> {
    const [host = '', port] = address.split(':');
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(Number(port), host, resolve);
    });
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
      for (const channel of this.#channels) channel.destroy();
    });
  }
}
