import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { codeCacheHeader, loadProgram, programFiles } from '../../../shared/launch.ts';

const NAME = 'tidepool-test';
/** As the build wraps it; `value` takes as many characters whichever it is. */
const source = (value: number): string =>
  `(function (exports, require, module, __filename, __dirname) {
function thrower() { throw new Error('thrown'); }
require('node:process').emit('launch-test', { value: ${value}, __filename, __dirname, thrower });
})`;

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'launch-'));
  writeFileSync(programFiles(directory, NAME).program, source(1));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Told {
  readonly value: number;
  readonly __filename: string;
  readonly __dirname: string;
  readonly thrower: () => void;
}

function run(): { told: Told | undefined; codeCache: string } {
  const program = loadProgram(directory, NAME);
  let told: Told | undefined;
  const listener = (facts: Told): void => {
    told = facts;
  };
  const events: NodeJS.EventEmitter = process;
  events.once('launch-test', listener);
  program.run();
  events.off('launch-test', listener);
  return { told, codeCache: program.codeCache };
}

function writeCodeCache(): string {
  const program = loadProgram(directory, NAME);
  program.run();
  const data = program.script.createCachedData();
  const { codeCache } = programFiles(directory, NAME);
  writeFileSync(codeCache, Buffer.concat([codeCacheHeader(program.bytes, data), data]));
  return codeCache;
}

describe('loadProgram', () => {
  it('runs the program with what a module gets', () => {
    const { told, codeCache } = run();
    expect(told).toMatchObject({
      value: 1,
      __filename: programFiles(directory, NAME).program,
      __dirname: directory,
    });
    expect(codeCache).toBe('missing');
  });

  it('takes the bytecode of its build', () => {
    writeCodeCache();
    expect(run()).toMatchObject({ told: { value: 1 }, codeCache: 'used' });
  });

  it('names file, line and function in a stack trace, compiled now or at the build', () => {
    const where = `thrower (${NAME}.program.js:2:`;
    const stack = (): string => {
      try {
        run().told?.thrower();
      } catch (error) {
        return error instanceof Error ? (error.stack ?? '') : '';
      }
      return '';
    };
    expect(stack()).toContain(where);
    writeCodeCache();
    expect(stack()).toContain(where);
  });

  it('leaves aside the bytecode of another program, though V8 would take it', () => {
    writeCodeCache();
    writeFileSync(programFiles(directory, NAME).program, source(2));
    expect(run()).toMatchObject({ told: { value: 2 }, codeCache: 'of another build or machine' });
  });

  it.each<[string, (path: string, bytes: Buffer) => void]>([
    ['a bit is wrong', (path, bytes) => writeFileSync(path, bytes.with(-9, (bytes.at(-9) ?? 0) ^ 1))],
    ['its end is missing', (path, bytes) => writeFileSync(path, bytes.subarray(0, -8))],
    ['more follows', (path) => appendFileSync(path, 'more')],
    ['it is empty', (path) => writeFileSync(path, '')],
    ['V8 is another', (path, bytes) => writeFileSync(path, bytes.fill('V8 9', bytes.indexOf('V8 ')))],
  ])('leaves the bytecode aside when %s', (_, damage) => {
    const path = writeCodeCache();
    damage(path, readFileSync(path));
    expect(run()).toMatchObject({ told: { value: 1 }, codeCache: 'of another build or machine' });
  });
});
