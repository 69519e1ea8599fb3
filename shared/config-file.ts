/**
 * YAML that people write, checked by a zod schema. An offence is told with file and line, and an unknown key with the
 * known one that looks most like it: a typo in a settings file must never be a setting silently left at its default.
 */
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from 'yaml';
import * as z from 'zod';
import { describeError, TidepoolError } from './errors.ts';
import { quote } from './ids.ts';

/** Levels of brackets in brackets. */
const MAX_DEPTH = 64;
/** Signs of a list or a map one after the other. */
const MAX_RUN = 200;
/** Offences told at once; the rest shows after these are mended. */
const MAX_OFFENCES = 5;
type Path = readonly PropertyKey[];

/** One offence: where it stands and what it is. `line` counts from 1. */
export interface Offence {
  readonly line: number;
  readonly message: string;
}

/** One document of a YAML file that still knows on which line each value stands. */
export interface LocatedYaml {
  /** First line of the document's content. */
  readonly line: number;
  /** Syntax errors; `value` is undefined when there are any. */
  readonly errors: readonly Offence[];
  readonly value: unknown;
  /** Line of the value at `path`, or of the nearest thing around it that exists. */
  lineOf(path: Path): number;
}

/**
 * Settings from one YAML file. An empty file is an empty map.
 * @param file name for messages only
 * @throws TidepoolError INVALID_CONFIG; each line of the message is `file:line: what is wrong`
 */
export function loadConfig<T>(schema: z.ZodType<T>, text: string, file: string): T {
  const [document, second] = parseYaml(text);
  if (second !== undefined) {
    throw refused(file, [
      { line: second.line, message: 'a second document; settings are one document, take the --- out' },
    ]);
  }
  if (document !== undefined && document.errors.length > 0) throw refused(file, document.errors);
  const result = checkYaml(schema, document ?? EMPTY);
  if ('offences' in result) throw refused(file, result.offences);
  return result.value;
}

/** Every document of a YAML text. Never throws: syntax errors stand in the document they belong to. */
export function parseYaml(text: string): readonly LocatedYaml[] {
  const deep = tooDeep(text);
  if (deep !== undefined) return [broken(deep, `nested more than ${MAX_DEPTH} levels deep`)];
  const counter = new LineCounter();
  try {
    const parsed = parseAllDocuments(text, {
      lineCounter: counter,
      prettyErrors: false,
      logLevel: 'error',
    });
    return [...parsed].flatMap((document) => locate(document, counter) ?? []);
  } catch (error) {
    return [broken(1, `this is no YAML that can be read: ${describeError(error)}`)];
  }
}

/** A text whose documents cannot be told apart. */
function broken(line: number, message: string): LocatedYaml {
  return { line, errors: [{ line, message }], value: undefined, lineOf: () => line };
}

/**
 * The line where brackets, or `- - -` on one line, go deeper than anybody writes. The YAML parser calls itself for each
 * level, and takes time that grows with their square. Brackets in quotes count too: a hundred that nobody closes are no
 * settings either.
 */
function tooDeep(text: string): number | undefined {
  let depth = 0;
  let line = 1;
  let run = 0;
  for (let index = 0; index < text.length; index++) {
    switch (text[index]) {
      case '\n':
        line++;
        run = 0;
        break;
      case '[':
      case '{':
        depth++;
        run = 0;
        break;
      case ']':
      case '}':
        depth = Math.max(0, depth - 1);
        run = 0;
        break;
      case '-':
      case '?':
      case ':':
        // A rule of dashes is no nesting.
        run = text[index + 1] === ' ' ? run + 1 : 0;
        break;
      case ' ':
        break;
      default:
        run = 0;
    }
    if (depth > MAX_DEPTH || run > MAX_RUN) return line;
  }
  return undefined;
}

/** The document's value as the schema has it, or the first offences with their lines. */
export function checkYaml<T>(
  schema: z.ZodType<T>,
  document: LocatedYaml,
  maxOffences = MAX_OFFENCES,
): { readonly value: T } | { readonly offences: readonly Offence[] } {
  if (document.errors.length > 0) return { offences: document.errors };
  const result = schema.safeParse(document.value ?? {});
  if (result.success) return { value: result.data };
  return {
    offences: result.error.issues
      .flatMap((issue) => describeIssue(schema, issue, document))
      .slice(0, maxOffences),
  };
}

/** The candidate that looks most like `word`, when one does: at most half of its letters differ, and never over 3. */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.max(1, Math.floor(word.length / 2))) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/**
 * Levenshtein distance in which two neighbours that changed places count once, as fingers have it (optimal string
 * alignment); answers `limit` as soon as it is certain to be reached.
 */
export function editDistance(a: string, b: string, limit: number = Number.POSITIVE_INFINITY): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
          ? (beforeLast[j - 2] ?? 0) + 1
          : Number.POSITIVE_INFINITY;
      row.push(Math.min(replaced, swapped, (last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    // A swap reaches back two rows, so both must be over the limit.
    if (Math.min(...row, ...last) >= limit) return limit;
    beforeLast = last;
    last = row;
  }
  return Math.min(limit, last[b.length] ?? 0);
}

const EMPTY: LocatedYaml = { line: 1, errors: [], value: {}, lineOf: () => 1 };

function refused(file: string, offences: readonly Offence[]): TidepoolError {
  return new TidepoolError(
    'INVALID_CONFIG',
    offences.map(({ line, message }) => `${file}:${line}: ${message}`).join('\n'),
    { details: { file, line: offences[0]?.line ?? 1 } },
  );
}

/** Undefined for a document without content, as a `---` at the end of a file makes one. */
function locate(document: Document, counter: LineCounter): LocatedYaml | undefined {
  const lineAt = (offset: number): number => counter.linePos(offset).line;
  const errors = document.errors.map((error) => ({
    line: lineAt(error.pos[0]),
    message: error.message,
  }));
  const root = document.contents;
  if (errors.length === 0 && (root === null || (isScalar(root) && root.value === null))) return undefined;
  const line = lineAt(root?.range?.[0] ?? document.errors[0]?.pos[0] ?? 0);
  const lineOf = (path: Path): number => lineAt(offsetOf(root, path) ?? 0);
  if (errors.length > 0) return { line, errors, value: undefined, lineOf };
  try {
    return { line, errors, value: document.toJS(), lineOf };
  } catch (error) {
    // Aliases that multiply without end, or to nowhere.
    const message = error instanceof Error ? error.message : String(error);
    return { line, errors: [{ line, message }], value: undefined, lineOf };
  }
}

/** Where the key of the last step stands, else the deepest step that exists. */
function offsetOf(root: Node | null, path: Path): number | undefined {
  let node: unknown = root;
  let offset = root?.range?.[0];
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) return offset;
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof step === 'number') {
      node = node.items[step];
      if (isMap(node) || isSeq(node) || isScalar(node)) offset = node.range?.[0] ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function describeIssue(
  schema: z.ZodType,
  issue: z.core.$ZodIssue,
  document: LocatedYaml,
): readonly Offence[] {
  const where = issue.path.length === 0 ? '' : `${formatPath(issue.path)}: `;
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schema, issue.path);
    return issue.keys.map((key) => {
      const near = suggest(key, known);
      const hint =
        near !== undefined
          ? `did you mean ${quote(near)}?`
          : known.length > 0
            ? `known keys: ${known.join(', ')}`
            : 'no key is known here';
      return {
        line: document.lineOf([...issue.path, key]),
        message: `${where}unknown key ${quote(key)}; ${hint}`,
      };
    });
  }
  return [{ line: document.lineOf(issue.path), message: `${where}${issue.message}` }];
}

function formatPath(path: Path): string {
  let text = '';
  for (const step of path) {
    text += typeof step === 'number' ? `[${step}]` : `${text === '' ? '' : '.'}${String(step)}`;
  }
  return text;
}

/** Keys that the schema knows for the map at `path`. */
function knownKeys(schema: z.core.$ZodType, path: Path): readonly string[] {
  let schemas = unwrap(schema);
  for (const step of path) schemas = schemas.flatMap((each) => stepInto(each, step)).flatMap(unwrap);
  return schemas.flatMap((each) => (each instanceof z.ZodObject ? Object.keys(each.shape) : []));
}

function stepInto(schema: z.core.$ZodType, step: PropertyKey): readonly z.core.$ZodType[] {
  if (schema instanceof z.ZodObject) return schema.shape[String(step)] ?? [];
  if (schema instanceof z.ZodArray) return [schema.element];
  if (schema instanceof z.ZodRecord) return [schema.valueType];
  return [];
}

/** What stands beneath `optional`, `default` and their like; every branch of a union. */
function unwrap(schema: z.core.$ZodType): readonly z.core.$ZodType[] {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodReadonly
  ) {
    return unwrap(schema.def.innerType);
  }
  if (schema instanceof z.ZodPipe) return [...unwrap(schema.def.in), ...unwrap(schema.def.out)];
  if (schema instanceof z.ZodUnion) return schema.def.options.flatMap(unwrap);
  return [schema];
}
