import './engine.ts';
import { runCli } from './cli/program.ts';

const VERSION = '0.1.0';

const stop = new AbortController();
let asked = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    asked++;
    // Who asks twice does not want to wait for what is under way.
    if (asked > 1) process.exit(1);
    stop.abort(new Error(`ended by ${signal}`));
  });
}

// A reader that has seen enough (`| head`) ends the command; a log that nobody reads any more does not end the hub.
process.stdout.on('error', (error) => stop.abort(error));
process.stderr.on('error', () => undefined);

process.exitCode = await runCli(process.argv.slice(2), VERSION, {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
});
