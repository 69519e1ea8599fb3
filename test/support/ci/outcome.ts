/** What a CI run found: the sum of its tests and lab scenarios, and what failed, once or twice. */
import { relative } from 'node:path';
import { z } from 'zod';

/** What of vitest's JSON report is read here. */
const TESTS = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string().optional(),
      assertionResults: z.array(
        z.object({
          fullName: z.string(),
          status: z.string(),
          failureMessages: z.array(z.string()).nullish(),
        }),
      ),
    }),
  ),
});

/** A line of the lab for each scenario; its others, such as the sum, have no such name. */
const SCENARIO = z.object({
  scenario: z.string(),
  status: z.enum(['passed', 'failed', 'skipped']),
  checks: z
    .array(z.object({ name: z.string(), ok: z.boolean(), found: z.unknown(), wanted: z.unknown() }))
    .optional(),
  reason: z.string().optional(),
});

const LINES = 12;
const LINE_CHARS = 500;

/** A test or a scenario, as one run found it. */
export interface Result {
  /** What is run again for it: a test file, or a scenario. */
  readonly source: string;
  readonly name: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** The first lines of what went wrong. */
  readonly why: readonly string[];
}

export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly Result[];
  /** Failed among others, passed alone: to be looked into, though the run counts them as passed. */
  readonly unsteady: readonly Result[];
}

/** @param root what test files are named from */
export function testsOf(report: unknown, root: string): Result[] {
  return TESTS.parse(report).testResults.flatMap(({ name, status, message = '', assertionResults }) => {
    const source = relative(root, name);
    const results = assertionResults.map((test): Result => {
      const failed = test.status === 'failed';
      const found = failed ? 'failed' : test.status === 'passed' ? 'passed' : 'skipped';
      return {
        source,
        name: test.fullName,
        status: found,
        why: firstLines((test.failureMessages ?? []).join('\n')),
      };
    });
    // A file that cannot be loaded, or whose set-up fails, has no test that says so.
    if (status === 'failed' && results.every((result) => result.status !== 'failed')) {
      results.push({ source, name: 'the file itself', status: 'failed', why: firstLines(message) });
    }
    return results;
  });
}

/** @param lines what `npm run lab` prints, line by line */
export function scenariosOf(lines: readonly string[]): Result[] {
  return lines.flatMap((line) => {
    const parsed = SCENARIO.safeParse(parsedJson(line));
    if (!parsed.success) return [];
    const { scenario, status, checks = [], reason } = parsed.data;
    const why = checks
      .filter(({ ok }) => !ok)
      .map(({ name, found, wanted }) => `${name}: ${String(found)} (wanted ${String(wanted)})`);
    if (reason !== undefined) why.push(reason);
    return [{ source: scenario, name: 'scenario', status, why: firstLines(why.join('\n')) }];
  });
}

/** What was found, with a second look at what failed the first time. */
export function outcomeOf(first: readonly Result[], again: readonly Result[]): Outcome {
  const key = ({ source, name }: Result): string => JSON.stringify([source, name]);
  const second = new Map(again.map((result) => [key(result), result]));
  const failures: Result[] = [];
  const unsteady: Result[] = [];
  for (const result of first.filter(({ status }) => status === 'failed')) {
    const later = second.get(key(result))?.status;
    // What a file could not set up is put right by any of its tests.
    const mended = later === 'passed' || (later === undefined && heldAlone(result, again));
    (mended ? unsteady : failures).push(result);
  }
  const known = new Set(first.map(key));
  failures.push(...again.filter((result) => result.status === 'failed' && !known.has(key(result))));
  const count = (status: Result['status']) => first.filter((result) => result.status === status).length;
  return {
    passed: count('passed') + unsteady.length,
    failed: failures.length,
    skipped: count('skipped'),
    failures,
    unsteady,
  };
}

function heldAlone({ source, name }: Result, again: readonly Result[]): boolean {
  const ofFile = again.filter((result) => result.source === source);
  return name === 'the file itself' && ofFile.length > 0 && ofFile.every(({ status }) => status !== 'failed');
}

function parsedJson(line: string): unknown {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line);
  } catch {
    // Not all that starts like JSON is ours.
    return undefined;
  }
}

function firstLines(text: string): string[] {
  if (text === '') return [];
  return text
    .split('\n')
    .slice(0, LINES)
    .map((line) => (line.length > LINE_CHARS ? `${line.slice(0, LINE_CHARS)}…` : line));
}
