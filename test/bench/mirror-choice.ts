/**
 * What the two ways against port squatting cost: a mirror on a privileged port speaks plain http as before, one on any port
 * has to speak https. Prints throughput and processor time of the sending side, as ratios of one run.
 *
 *   npx tsx test/bench/mirror-choice.ts
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createPlain, type RequestListener } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { cpuSeconds } from '../lab/proc.ts';
import { mustRun } from '../lab/process.ts';
import { TestAuthority } from '../support/trust.ts';
import { median } from './cached-blob.ts';

const BYTES = 512 * 1024 * 1024;
const CHUNK = Buffer.alloc(1024 * 1024, 'tidepool');
const ROUNDS = 5;

/** Sends memory: what is left is the connection itself. */
const send: RequestListener = (_request, response) => {
  response.writeHead(200, { 'content-length': BYTES });
  let left = BYTES;
  const more = (): void => {
    while (left > 0) {
      left -= CHUNK.length;
      if (!response.write(CHUNK)) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
};

async function serve(kind: string): Promise<void> {
  let server = createPlain(send);
  if (kind === 'https') {
    const authority = await TestAuthority.make();
    const { key, cert } = (await authority.hub()).current();
    server = createSecure({ key, cert, minVersion: 'TLSv1.3' }, send);
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.send?.(Object(server.address()).port);
}

async function measure(kind: string): Promise<{ bytesPerSecond: number; cpuPerGb: number }> {
  const child = fork(fileURLToPath(import.meta.url), ['serve', kind]);
  try {
    const [port] = await once(child, 'message');
    const url = `${kind}://127.0.0.1:${port}/`;
    const rates: number[] = [];
    const before = cpuSeconds(child.pid ?? 0);
    for (let round = 0; round < ROUNDS; round++) {
      const started = performance.now();
      await mustRun(['curl', '-sSk', '-o', '/dev/null', url]);
      rates.push(BYTES / ((performance.now() - started) / 1000));
    }
    const cpu = cpuSeconds(child.pid ?? 0) - before;
    return { bytesPerSecond: median(rates), cpuPerGb: cpu / ((BYTES * ROUNDS) / 1e9) };
  } finally {
    child.kill();
  }
}

async function main(): Promise<void> {
  const plain = await measure('http');
  const secure = await measure('https');
  const shown = (name: string, { bytesPerSecond, cpuPerGb }: typeof plain): string =>
    `${name.padEnd(6)} ${(bytesPerSecond / 1e6).toFixed(0)} MB/s, ${cpuPerGb.toFixed(2)} processor seconds per GB`;
  console.log(shown('plain', plain));
  console.log(shown('https', secure));
  console.log(
    `https : plain = ${(secure.bytesPerSecond / plain.bytesPerSecond).toFixed(2)} of the throughput, ${(secure.cpuPerGb / plain.cpuPerGb).toFixed(2)} × the processor`,
  );
}

if (argv[2] === 'serve') await serve(argv[3] ?? 'http');
else await main();
