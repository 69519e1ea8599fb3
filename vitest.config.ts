import { defineConfig } from 'vitest/config';

/** One project a kind of test, so that `npm run check` can run the house rules alone. */
const project = (name: string, timeoutMs: number, retryOrder: 'parallel' | 'sequential' = 'parallel') => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    fileParallelism: retryOrder === 'parallel',
  },
});

export default defineConfig({
  test: {
    maxWorkers: 2,
    pool: 'forks',
    projects: [
      project('check', 60_000),
      project('unit', 60_000),
      project('sim', 240_000),
      project('integration', 120_000),
      project('images', 60_000),
      project('chart', 150_000),
    ],
  },
});
