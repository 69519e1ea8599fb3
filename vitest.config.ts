import { defineConfig } from 'vitest/config';

/**
 * One project a kind of test, so that `npm run check` can run the house rules alone. Files of a project without `isolate` share a
 * process: its modules are loaded once, not once a file.
 */
const project = (name: string, timeoutMs: number, isolate = true) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    isolate,
    // What comes true some time may take as long as a busy machine takes; the default is a second.
    expect: { poll: { timeout: 30_000, interval: 20 } },
  },
});

/** All of what `npm test` takes a part of; test/support/depth.ts says more. */
const deep = {
  test: {
    ...project('deep', 600_000).test,
    include: [
      'test/sim/*.test.ts',
      'test/integration/{crash-store,fuzz-{hub-api,mirror,ops,peers,yaml}}.test.ts',
      'test/integration/kube/{feedback,hub,leadership,outage,scale,source,trust}.test.ts',
    ],
    env: { TIDEPOOL_TEST_DEPTH: 'deep' },
  },
};

export default defineConfig({
  test: {
    // One more than the cores of a small machine: much of what is tested waits for a clock or another process.
    maxWorkers: 3,
    // A module is transformed once, not once a project; kept by its content, in node_modules.
    experimental: { fsModuleCache: true },
    pool: 'forks',
    projects: [
      project('check', 60_000),
      project('unit', 120_000, false),
      project('sim', 240_000, false),
      project('integration', 240_000, false),
      project('images', 60_000),
      project('chart', 150_000),
      deep,
    ],
  },
});
