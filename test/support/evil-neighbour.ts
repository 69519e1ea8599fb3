import { createHash } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { encodeClaim, PATHS, parseAsk } from '../../edge/peers/wire.ts';
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
    const answer: RequestListener = (request, response) => {
      const [path, query = ''] = (request.url ?? '').split('?');
      const json = (value: unknown): void => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
      };
      request.resume();
      const told = init.tell?.[path ?? ''];
      if (told !== undefined) json(told);
      else if (path === PATHS.hello) {
        json({ node: init.node, pool: init.pool, address: init.address, members: [] });
      } else if (path === PATHS.join) {
        json({ onBlob: true, weight: 1, whole: true, have: '', claimed: [] });
      } else if (path === PATHS.piece) {
        this.asked++;
        if (init.lie === 'nothing') {
          response.writeHead(404, { 'content-type': 'application/json' });
          response.end(JSON.stringify({ kind: 'refused', code: 'NOT_ON_BLOB', message: 'not here' }));
          return;
        }
        const ask = parseAsk(new URLSearchParams(query));
        const bytes = Buffer.alloc(pieceLength(ask.layout, ask.piece), 0x66);
        const claimed = init.lie === 'claimed' ? bytes : Buffer.from('something else');
        const sha256 = createHash('sha256').update(claimed).digest();
        response
          .writeHead(200, {
            'content-length': bytes.length,
            ...encodeClaim({ sha256, reader, verified: false }),
          })
          .end(bytes);
      } else response.writeHead(404, { 'content-length': 0 }).end();
    };
    this.#server =
      init.identity === undefined ? createServer(answer) : createTlsServer(serverTls(init.identity), answer);
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
    });
  }
}
