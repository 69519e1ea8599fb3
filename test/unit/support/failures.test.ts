import { describe, expect, it } from 'vitest';
import { failuresOf } from '../../support/failures.ts';

const passed = { fullName: 'a pool works', status: 'passed', duration: 3, failureMessages: [] };

describe('failures of a run', () => {
  it('are named by file and full name, with the first ten lines of what went wrong', () => {
    const lines = Array.from({ length: 30 }, (_, n) => `line ${n}`);
    const report = {
      testResults: [
        { name: '/work/test/unit/a.test.ts', status: 'passed', message: '', assertionResults: [passed] },
        {
          name: '/work/test/integration/b.test.ts',
          status: 'failed',
          message: '',
          assertionResults: [
            passed,
            {
              fullName: 'a pool heals',
              status: 'failed',
              duration: 1234.5,
              failureMessages: [lines.join('\n')],
            },
          ],
        },
      ],
    };
    const [failure = '', ...others] = failuresOf(report, '/work');
    expect(others).toEqual([]);
    expect(failure.split('\n')).toEqual([
      'FAILED test/integration/b.test.ts: a pool heals (1235 ms)',
      ...lines.slice(0, 10).map((line) => `    ${line}`),
    ]);
  });

  it('are also files that could not be loaded, and hooks', () => {
    const report = {
      testResults: [
        { name: '/work/test/c.test.ts', status: 'failed', message: 'no such module', assertionResults: [] },
      ],
    };
    expect(failuresOf(report, '/work')).toEqual(['FAILED test/c.test.ts: no test of it\n    no such module']);
  });

  it('are none where all is well', () => {
    const report = { testResults: [{ name: '/a', status: 'passed', assertionResults: [passed] }] };
    expect(failuresOf(report, '/')).toEqual([]);
  });
});
