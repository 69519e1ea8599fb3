import { createServer } from 'node:net';

/**
 * Below the ports that the system gives to outgoing connections: no connection of another test can take one between the look
 * and the listening, or while who listens there is stopped for a while.
 */
const FIRST = 10_000;
const END = 32_000;
/** How far apart processes that were started one after the other begin to look. */
const STRIDE = 97;

let next = (process.pid * STRIDE) % (END - FIRST);

/** A TCP port that nobody listens on there, for who has to be told its port before it starts, or comes back to it. */
export async function freePort(host: string): Promise<number> {
  for (let tries = FIRST; tries < END; tries++) {
    const port = FIRST + (next++ % (END - FIRST));
    if (await isFree(host, port)) return port;
  }
  throw new Error(`no port is free on ${host}`);
}

async function isFree(host: string, port: number): Promise<boolean> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(new Error(`cannot listen on ${host}: ${error.message}`, { cause: error }));
    });
    server.listen(port, host, () => resolve(true));
  });
  if (free) await new Promise<void>((resolve) => server.close(() => resolve()));
  return free;
}
