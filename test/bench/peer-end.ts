/** One end of a transfer between neighbours, in a process of its own: started by peers.ts, told what to do by messages. */
import { HttpPeerClient } from '../../edge/peers/client.ts';
import type { PieceBuffer } from '../../edge/store/types.ts';
import { systemClock } from '../../shared/clock.ts';
import type { TlsMaterial } from '../../shared/trust/types.ts';
import { CLIENT_NODE, HeldBlob, POOL, peerServer, SERVER_NODE } from '../support/peer-fixture.ts';
import { TestIdentity } from '../support/trust.ts';

const BYTES = 256 * 1024 * 1024;
const PARALLEL = 6;

export type ToPeerEnd =
  | { readonly kind: 'serve'; readonly material: TlsMaterial | undefined }
  | { readonly kind: 'fetch'; readonly material: TlsMaterial | undefined; readonly address: string }
  | { readonly kind: 'cpu' };
export type FromPeerEnd =
  | { readonly kind: 'serving'; readonly address: string }
  | { readonly kind: 'fetched'; readonly bytes: number; readonly seconds: number }
  | { readonly kind: 'cpu'; readonly seconds: number };

/** Kept and given out again, as the store does. */
class KeptBuffers {
  readonly #free: Buffer[] = [];

  async buffer(length: number): Promise<PieceBuffer> {
    const at = this.#free.findIndex((each) => each.length === length);
    const [bytes = Buffer.allocUnsafeSlow(length)] = at < 0 ? [] : this.#free.splice(at, 1);
    return { bytes, release: () => this.#free.push(bytes) };
  }
}

let blob: HeldBlob | undefined;
const clients = new Map<string, HttpPeerClient>();
const identityOf = (material: TlsMaterial | undefined): { identity?: TestIdentity } =>
  material === undefined ? {} : { identity: new TestIdentity(material) };

function blobOf(): HeldBlob {
  blob ??= new HeldBlob(Buffer.alloc(BYTES, 'seven brave foxes of the tide pool'));
  return blob;
}

async function serve(material: TlsMaterial | undefined): Promise<FromPeerEnd> {
  const { address } = await peerServer([blobOf()], identityOf(material));
  return { kind: 'serving', address };
}

async function fetchAll(address: string, material: TlsMaterial | undefined): Promise<FromPeerEnd> {
  const held = blobOf();
  const client =
    clients.get(address) ??
    new HttpPeerClient(
      { store: new KeptBuffers(), clock: systemClock, ...identityOf(material) },
      { node: CLIENT_NODE, pool: POOL, address: '127.0.0.1:2' },
    );
  clients.set(address, client);
  let next = 0;
  let bytes = 0;
  const one = async (): Promise<void> => {
    while (next < held.layout.pieceCount) {
      const answer = await client.piece(
        { node: SERVER_NODE, address },
        held.ask(next++),
        AbortSignal.timeout(60_000),
      );
      if (answer.kind !== 'bytes') throw new Error(`the neighbour answers ${answer.kind}`);
      bytes += answer.buffer.bytes.length;
      answer.buffer.release();
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: PARALLEL }, one));
  return { kind: 'fetched', bytes, seconds: (performance.now() - started) / 1000 };
}

async function handle(message: ToPeerEnd): Promise<FromPeerEnd> {
  if (message.kind === 'serve') return await serve(message.material);
  if (message.kind === 'fetch') return await fetchAll(message.address, message.material);
  const { user, system } = process.cpuUsage();
  return { kind: 'cpu', seconds: (user + system) / 1e6 };
}

process.on('message', (message: ToPeerEnd) => {
  handle(message).then(
    (answer) => process.send?.(answer),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
