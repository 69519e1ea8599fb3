import { writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { codeCacheHeader, loadProgram } from '../../../shared/launch.ts';

/** Runs a program as `launch` does and writes the bytecode of all functions that it came to call when it ends. */
export function record(name: string, directory: string, out: string): void {
  const program = loadProgram(directory, name);
  // What ran once, at the start, is what is wanted most. The flag is set back before V8 writes down which it ran with.
  setFlagsFromString('--no-flush-bytecode');
  process.on('exit', () => {
    setFlagsFromString('--flush-bytecode');
    const data = program.script.createCachedData();
    writeFileSync(out, Buffer.concat([codeCacheHeader(program.bytes, data), data]));
  });
  program.run();
}
