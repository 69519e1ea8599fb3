import { describe, expect, it } from 'vitest';
import { outcomeOf, type Result, scenariosOf, testsOf } from '../../../support/ci/outcome.ts';

const ROOT = '/house';

function report(file: string, tests: Readonly<Record<string, string>>, message = ''): unknown {
  const assertionResults = Object.entries(tests).map(([fullName, status]) => ({
    fullName,
    status,
    failureMessages: status === 'failed' ? ['AssertionError: 2 is not 1\n    at here'] : [],
  }));
  const failed = message !== '' || assertionResults.some(({ status }) => status === 'failed');
  return {
    testResults: [
      { name: `${ROOT}/${file}`, status: failed ? 'failed' : 'passed', message, assertionResults },
    ],
  };
}

const bare = (results: readonly Result[]): string[] => results.map(({ source, name }) => `${source} ${name}`);

describe('what a run of the tests found', () => {
  it('is counted, and what failed is told with its file and why', () => {
    const first = testsOf(report('test/a.test.ts', { one: 'passed', two: 'failed', three: 'pending' }), ROOT);
    const outcome = outcomeOf(first, []);
    expect(outcome).toMatchObject({ passed: 1, failed: 1, skipped: 1, unsteady: [] });
    expect(outcome.failures).toEqual([
      {
        source: 'test/a.test.ts',
        name: 'two',
        status: 'failed',
        why: ['AssertionError: 2 is not 1', '    at here'],
      },
    ]);
  });

  it('is a failure where a file could not be loaded, though no test of it ran', () => {
    const first = testsOf(report('test/a.test.ts', {}, 'cannot find it'), ROOT);
    expect(outcomeOf(first, [])).toMatchObject({ passed: 0, failed: 1 });
    expect(first[0]?.why).toEqual(['cannot find it']);
    // Its tests were never counted; that it holds alone is all there is to say.
    const again = testsOf(report('test/a.test.ts', { one: 'passed' }), ROOT);
    expect(outcomeOf(first, again)).toMatchObject({ failed: 0, passed: 1 });
  });

  it('is unsteady where it failed and then passed alone, and failed where it did so twice, or was not seen again', () => {
    const tests = { one: 'passed', two: 'failed', three: 'failed', four: 'failed' };
    const first = testsOf(report('test/a.test.ts', tests), ROOT);
    const again = testsOf(report('test/a.test.ts', { one: 'passed', two: 'passed', three: 'failed' }), ROOT);
    const outcome = outcomeOf(first, again);
    expect(bare(outcome.unsteady)).toEqual(['test/a.test.ts two']);
    expect(bare(outcome.failures)).toEqual(['test/a.test.ts three', 'test/a.test.ts four']);
    expect(outcome).toMatchObject({ passed: 2, failed: 2, skipped: 0 });
  });

  it('does not lose what failed the second time alone', () => {
    const first = testsOf(report('test/a.test.ts', { one: 'failed' }), ROOT);
    const again = testsOf(report('test/b.test.ts', { other: 'failed' }), ROOT);
    expect(bare(outcomeOf(first, again).failures)).toEqual(['test/a.test.ts one', 'test/b.test.ts other']);
  });
});

describe('what a run of the lab found', () => {
  it('is read from its lines, with the checks that did not hold', () => {
    const lines = [
      '── cold: eight at once',
      JSON.stringify({
        scenario: 'cold',
        status: 'passed',
        checks: [{ name: 'x', ok: true, found: 1, wanted: '<= 1' }],
      }),
      JSON.stringify({
        scenario: 'rolling',
        status: 'failed',
        checks: [{ name: 'time', ok: false, found: 2.9, wanted: '<= 2.6' }],
      }),
      JSON.stringify({ scenario: 'cri', status: 'skipped', reason: 'no containerd' }),
      JSON.stringify({ scenario: 'deaths', status: 'failed', reason: 'Error: no route' }),
      '{"passed":1,"failed":2,"skipped":1}',
      '{ not ours',
    ];
    const outcome = outcomeOf(scenariosOf(lines), []);
    expect(outcome).toMatchObject({ passed: 1, failed: 2, skipped: 1 });
    expect(outcome.failures.map(({ source, why }) => [source, why])).toEqual([
      ['rolling', ['time: 2.9 (wanted <= 2.6)']],
      ['deaths', ['Error: no route']],
    ]);
  });
});
