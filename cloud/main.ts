import { runCli } from './cli/program.ts';

const VERSION = '0.1.0';

const controller = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    controller.abort(new Error(signal));
    // A second one means now.
    process.once(signal, () => process.exit(1));
  });
}
process.exitCode = await runCli(process.argv.slice(2), VERSION, {
  stdout: process.stdout,
  stderr: process.stderr,
  signal: controller.signal,
});
