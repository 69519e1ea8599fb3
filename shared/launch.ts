/**
 * Starts a bundled program from the bytecode that V8 made of it at the build: to compile it anew is much of a
 * start. Nothing is ever written here; where the bytecode is missing or of another machine, V8 compiles as ever.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { debuglog } from 'node:util';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/** V8 reads bytecode in place where it is aligned, as it is behind a header of this length. */
const HEADER_BYTES = 256;
const say = debuglog('tidepool');

/** `refused` by V8 itself: it runs with other flags than those of the build. */
export type CodeCacheState = 'used' | 'missing' | 'of another build or machine' | 'refused';

export interface Program {
  readonly script: Script;
  /** Its source. */
  readonly bytes: Uint8Array;
  readonly codeCache: CodeCacheState;
  run(): void;
}

/** Where the build puts what `tidepool-….mjs` starts. */
export function programFiles(directory: string, name: string): { program: string; codeCache: string } {
  return { program: join(directory, `${name}.program.js`), codeCache: join(directory, `${name}.code-cache`) };
}

/**
 * Runs `name` of `directory`. V8's flags have to be set before, as bytecode made with others is refused.
 * `NODE_DEBUG=tidepool` tells what became of the bytecode.
 */
export function launch(name: string, directory: string): void {
  let program: Program;
  try {
    program = loadProgram(directory, name);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    process.stderr.write(`${name}: cannot read its program (${why}); keep the files of dist/ together\n`);
    process.exitCode = 1;
    return;
  }
  say('code cache: %s', program.codeCache);
  program.run();
}

/** @throws where the program cannot be read */
export function loadProgram(directory: string, name: string): Program {
  const files = programFiles(directory, name);
  const bytes = readFileSync(files.program);
  // The build writes ASCII alone, which V8 keeps in a byte a character.
  const source = bytes.toString('latin1');
  const cached = readCodeCache(files.codeCache, bytes);
  const script = new Script(source, {
    // In stack traces. Bytecode brings its own, of the build's machine: the same one everywhere.
    filename: basename(files.program),
    ...(typeof cached === 'string' ? {} : { cachedData: cached }),
  });
  return {
    script,
    bytes,
    codeCache: typeof cached === 'string' ? cached : script.cachedDataRejected ? 'refused' : 'used',
    run() {
      const module = { exports: {} };
      script.runInThisContext()(
        module.exports,
        createRequire(files.program),
        module,
        files.program,
        directory,
      );
    },
  };
}

/** What goes in front of the bytecode: V8 asks for the same length of the source, not for the same source or processor. */
export function codeCacheHeader(program: Uint8Array, data: Uint8Array): Buffer {
  const made = `tidepool code cache, V8 ${process.versions.v8} ${process.arch}, program ${crc32(program)}, data ${crc32(data)}`;
  return Buffer.from(`${made.padEnd(HEADER_BYTES - 1)}\n`);
}

function readCodeCache(path: string, program: Uint8Array): Buffer | CodeCacheState {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    return 'missing';
  }
  const data = file.subarray(HEADER_BYTES);
  const same = codeCacheHeader(program, data).equals(file.subarray(0, HEADER_BYTES));
  return same ? data : 'of another build or machine';
}
