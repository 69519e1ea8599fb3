import { createServer } from 'node:net';

/** A TCP port that nobody listens on there, for a process that has to be told its port before it starts. */
export async function freePort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(new Error(`cannot listen on ${host}: ${error.message}`, { cause: error }));
    });
    server.listen(0, host, resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error(`no port on ${host}`);
  return address.port;
}
