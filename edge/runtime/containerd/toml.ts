/**
 * As much TOML as containerd's own files use. Reads only; what it cannot read it says, with the line.
 */
import { TidepoolError } from '../../../shared/errors.ts';

export type TomlValue =
  | string
  | number
  | boolean
  | readonly TomlValue[]
  | { readonly [key: string]: TomlValue };

export interface TomlEntry {
  /** Tables and dotted keys, from the top: `['host', 'https://m.example', 'ca']`. */
  readonly path: readonly string[];
  readonly value: TomlValue;
  /** From 1. */
  readonly line: number;
}

export interface TomlTable {
  readonly path: readonly string[];
  readonly line: number;
}

export interface TomlFile {
  /** In the file's order. */
  readonly entries: readonly TomlEntry[];
  readonly tables: readonly TomlTable[];
}

/** @throws TidepoolError INVALID_CONFIG */
export function parseToml(text: string): TomlFile {
  return new Reader(text).file();
}

const ESCAPES: Readonly<Record<string, string>> = {
  b: '\b',
  t: '\t',
  n: '\n',
  f: '\f',
  r: '\r',
  '"': '"',
  '\\': '\\',
};
const MAX_DEPTH = 32;

class Reader {
  readonly #text: string;
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text.replace(/^\uFEFF/, '').replaceAll('\r\n', '\n');
  }

  file(): TomlFile {
    const entries: TomlEntry[] = [];
    const tables: TomlTable[] = [];
    let prefix: readonly string[] = [];
    for (;;) {
      this.#skip(true);
      if (this.#at >= this.#text.length) return { entries, tables };
      const line = this.#line;
      if (this.#take('[')) {
        const many = this.#take('[');
        prefix = this.#key();
        this.#expect(']');
        if (many) this.#expect(']');
        tables.push({ path: prefix, line });
      } else {
        const key = this.#key();
        this.#expect('=');
        entries.push({ path: [...prefix, ...key], value: this.#value(0), line });
      }
      this.#skip(false);
      if (this.#at < this.#text.length && this.#next() !== '\n')
        throw this.#bad('more on the line than one thing');
    }
  }

  #key(): string[] {
    const parts: string[] = [];
    do {
      this.#skip(false);
      const next = this.#next();
      if (next === '"' || next === "'") parts.push(this.#string());
      else {
        const bare = this.#match(/[A-Za-z0-9_-]+/y);
        if (bare === undefined) throw this.#bad('no key where one belongs');
        parts.push(bare);
      }
      this.#skip(false);
    } while (this.#take('.'));
    return parts;
  }

  #value(depth: number): TomlValue {
    if (depth > MAX_DEPTH) throw this.#bad('nested too deep');
    this.#skip(false);
    const next = this.#next();
    if (next === '"' || next === "'") return this.#string();
    if (this.#take('[')) return this.#array(depth);
    if (this.#take('{')) return this.#inlineTable(depth);
    const word = this.#match(/[^\s,\]}#]+/y);
    if (word === undefined) throw this.#bad('no value where one belongs');
    if (word === 'true' || word === 'false') return word === 'true';
    const number = Number(word.replaceAll('_', ''));
    return Number.isNaN(number) ? word : number;
  }

  #array(depth: number): TomlValue {
    const items: TomlValue[] = [];
    for (;;) {
      this.#skip(true);
      if (this.#take(']')) return items;
      items.push(this.#value(depth + 1));
      this.#skip(true);
      if (!this.#take(',') && this.#next() !== ']') throw this.#bad('a list that does not end');
    }
  }

  #inlineTable(depth: number): TomlValue {
    const table: Record<string, TomlValue> = Object.create(null);
    for (;;) {
      this.#skip(true);
      if (this.#take('}')) return table;
      const key = this.#key().join('.');
      this.#expect('=');
      table[key] = this.#value(depth + 1);
      this.#skip(true);
      if (!this.#take(',') && this.#next() !== '}') throw this.#bad('a table that does not end');
    }
  }

  #string(): string {
    for (const fence of ['"""', "'''"] as const) {
      if (this.#text.startsWith(fence, this.#at)) return this.#longString(fence);
    }
    const quote = this.#next();
    this.#at++;
    let out = '';
    for (;;) {
      const char = this.#next();
      if (char === undefined || char === '\n') throw this.#bad('a string that does not end');
      this.#at++;
      if (char === quote) return out;
      out += char === '\\' && quote === '"' ? this.#escape() : char;
    }
  }

  #longString(fence: '"""' | "'''"): string {
    this.#at += 3;
    if (this.#next() === '\n') this.#newline();
    let out = '';
    for (;;) {
      if (this.#text.startsWith(fence, this.#at)) {
        this.#at += 3;
        return out;
      }
      const char = this.#next();
      if (char === undefined) throw this.#bad('a string that does not end');
      if (char === '\n') {
        this.#newline();
        out += char;
        continue;
      }
      this.#at++;
      if (char !== '\\' || fence === "'''") out += char;
      else if (/[ \t]*\n/y.test(this.#text.slice(this.#at))) this.#skip(true);
      else out += this.#escape();
    }
  }

  #escape(): string {
    const char = this.#next() ?? '';
    this.#at++;
    if (char === 'u' || char === 'U') {
      const hex = this.#match(char === 'u' ? /[0-9a-fA-F]{4}/y : /[0-9a-fA-F]{8}/y);
      const code = Number.parseInt(hex ?? '', 16);
      if (!(code <= 0x10ffff)) throw this.#bad('an escape that is none');
      return String.fromCodePoint(code);
    }
    const plain = ESCAPES[char];
    if (plain === undefined) throw this.#bad('an escape that is none');
    return plain;
  }

  /** White space and comments; over line ends too where asked. */
  #skip(lines: boolean): void {
    for (;;) {
      this.#match(/[ \t\r]+/y);
      this.#match(/#[^\n]*/y);
      if (!lines || this.#next() !== '\n') return;
      this.#newline();
    }
  }

  #newline(): void {
    this.#at++;
    this.#line++;
  }

  #next(): string | undefined {
    return this.#text[this.#at];
  }

  #take(char: string): boolean {
    if (this.#next() !== char) return false;
    this.#at++;
    return true;
  }

  #expect(char: string): void {
    this.#skip(false);
    if (!this.#take(char)) throw this.#bad(`no ${char} where one belongs`);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #bad(why: string): TidepoolError {
    return new TidepoolError('INVALID_CONFIG', `line ${this.#line}: ${why}`);
  }
}
