/**
 * Reads what a CI run left in a directory (`tests.json`, `deep.json`, `lab.jsonl`, and `-again` beside each where something was run anew).
 *
 * - `tsx test/support/ci/main.ts failed DIRECTORY tests|deep|lab`: what to run again, a name a line
 * - `tsx test/support/ci/main.ts sum DIRECTORY`: what failed and why, and as the last line "N passed, N failed, N skipped"
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { outcomeOf, type Result, scenariosOf, testsOf } from './outcome.ts';

const KINDS = ['tests', 'deep', 'lab'] as const;
type Kind = (typeof KINDS)[number];

const [command, directory = '', only] = process.argv.slice(2);
if (command === 'failed') {
  const kind = KINDS.find((name) => name === only) ?? 'tests';
  const failed = read(kind, '').filter(({ status }) => status === 'failed');
  for (const source of new Set(failed.map((result) => result.source))) console.log(source);
} else {
  sum();
}

function sum(): void {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const kind of KINDS) {
    const { failures, unsteady, ...counts } = outcomeOf(read(kind, ''), read(kind, '-again'));
    tell('UNSTEADY (failed among others, passed alone)', unsteady);
    tell('FAILED', failures);
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
}

function tell(what: string, results: readonly Result[]): void {
  for (const { source, name, why } of results) {
    console.log([`\n${what}: ${source}: ${name}`, ...why.map((line) => `    ${line}`)].join('\n'));
  }
}

/** Nothing where the step did not come to its report. */
function read(kind: Kind, run: '' | '-again'): Result[] {
  const file = join(directory, `${kind}${run}.${kind === 'lab' ? 'jsonl' : 'json'}`);
  if (!existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  return kind === 'lab' ? scenariosOf(text.split('\n')) : testsOf(JSON.parse(text), process.cwd());
}
