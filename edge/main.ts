import './engine.ts';
import { systemClock } from '../shared/clock.ts';
import { runCli } from './cli/program.ts';
import { thisMachine } from './config/load-settings.ts';

/** What ends with nothing left to wait for, and without having said how it went, went wrong. */
const UNFINISHED = 13;

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

// A reader that has seen enough (`| head`) ends the command; a log that nobody reads any more does not end the agent.
process.stdout.on('error', (error) => stop.abort(error));
process.stderr.on('error', () => undefined);

// Not awaited: what V8 compiled ahead of time is a script, and scripts cannot wait at their top.
process.exitCode = UNFINISHED;
void runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  machine: thisMachine,
  clock: systemClock,
  signal: stop.signal,
}).then((code) => {
  process.exitCode = code;
});
