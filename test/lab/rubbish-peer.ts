/**
 * Stands where a member's agent should be and makes no sense: `rubbish-peer.ts ADDRESS PORT`. Connections are answered
 * in turn with bytes that are no HTTP, with a well-formed answer of random bytes, and with silence.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';

const BODY_BYTES = 4096;

const MANNERS: readonly ((socket: Socket) => void)[] = [
  (socket) => socket.end(randomBytes(BODY_BYTES)),
  (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${BODY_BYTES}\r\n\r\n`);
    socket.end(randomBytes(BODY_BYTES));
  },
  () => undefined,
];

let turn = 0;
const [address, port] = process.argv.slice(2);
createServer((socket) => {
  const manner = MANNERS[turn % MANNERS.length];
  turn += 1;
  // Whoever hangs up on rubbish is right to.
  socket.on('error', () => undefined);
  socket.once('data', () => manner?.(socket));
}).listen(Number(port), address);
