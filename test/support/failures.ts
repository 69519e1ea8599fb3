import { readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';

/** What of vitest's JSON report is read here. */
const REPORT = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string().optional(),
      assertionResults: z.array(
        z.object({
          fullName: z.string(),
          status: z.string(),
          duration: z.number().nullish(),
          failureMessages: z.array(z.string()).nullish(),
        }),
      ),
    }),
  ),
});

const LINES = 10;
const LINE_CHARS = 500;
/** A run in which everything fails has one cause, which the first ones show. */
const MOST = 50;

/** Each failed test of a vitest JSON report: its file, its full name and the first lines of its error. */
export function failuresOf(report: unknown, root: string): string[] {
  const failures: string[] = [];
  for (const { name, status, message = '', assertionResults } of REPORT.parse(report).testResults) {
    const file = relative(root, name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    for (const { fullName, duration, failureMessages } of failed) {
      const after = typeof duration === 'number' ? ` (${Math.round(duration)} ms)` : '';
      failures.push(
        [`FAILED ${file}: ${fullName}${after}`, ...firstLines((failureMessages ?? []).join('\n'))].join('\n'),
      );
    }
    // A file that cannot be loaded, or a hook that fails, is no test's failure.
    if (status === 'failed' && failed.length === 0) {
      failures.push([`FAILED ${file}: no test of it`, ...firstLines(message)].join('\n'));
    }
  }
  return failures;
}

function firstLines(text: string): string[] {
  return text
    .split('\n')
    .slice(0, LINES)
    .map((line) => `    ${line.length > LINE_CHARS ? `${line.slice(0, LINE_CHARS)}…` : line}`);
}

/** `tsx test/support/failures.ts REPORT.json`: prints them, so that they stand at the end of a long output. */
function main(file: string | undefined): void {
  if (file === undefined) throw new Error('say which report: tsx test/support/failures.ts REPORT.json');
  let report: unknown;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    console.log(`no report of the tests can be read in ${file}: ${String(error)}`);
    return;
  }
  const failures = failuresOf(report, process.cwd());
  for (const failure of failures.slice(0, MOST)) console.log(failure);
  if (failures.length > MOST) console.log(`and ${failures.length - MOST} more`);
}

if (import.meta.url === pathToFileURL(resolve(process.argv[1] ?? '')).href) main(process.argv[2]);
