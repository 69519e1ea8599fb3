import { afterAll, beforeAll, describe } from 'vitest';
import { type ApiServerBinaries, findApiServer, startApiServer, type TestApiServer } from './api-server.ts';
import { startApiServerDouble } from './api-server-double.ts';

const START_MS = 120_000;

/** The same tests against the double and against a real kube-apiserver; where that is missing, why stands in the output. */
export function describeApiServers(title: string, body: (server: () => TestApiServer) => void): void {
  const found = findApiServer();
  if ('missing' in found) {
    describe(`${title}, on the double`, () => inside(startApiServerDouble, body));
    describe.skip(`${title}, on kube-apiserver: ${found.missing}`, () => inside(startApiServerDouble, body));
    console.warn(`skipped on kube-apiserver: ${found.missing}`);
    return;
  }
  const real = early(found);
  describe(`${title}, on the double`, () => {
    // It takes its ten seconds while the double is tested.
    beforeAll(() => void real.begin());
    inside(startApiServerDouble, body);
  });
  describe(`${title}, on kube-apiserver`, () => inside(real.begin, body));
  // Also where a filter has left out all that would have used it.
  afterAll(real.end, START_MS);
}

/** A server that is started once, when the first asks for it. */
function early(found: ApiServerBinaries): {
  readonly begin: () => Promise<TestApiServer>;
  readonly end: () => Promise<void>;
} {
  let started: Promise<TestApiServer> | undefined;
  return {
    begin() {
      started ??= startApiServer(found);
      // Whoever needs it hears of it.
      started.catch(() => undefined);
      return started;
    },
    async end() {
      const server = await started?.catch(() => undefined);
      await server?.close();
    },
  };
}

function inside(start: () => Promise<TestApiServer>, body: (server: () => TestApiServer) => void): void {
  let server: TestApiServer | undefined;
  beforeAll(async () => {
    server = await start();
  }, START_MS);
  afterAll(async () => {
    await server?.close();
  });
  body(() => {
    if (server === undefined) throw new Error('the API server has not come up');
    return server;
  });
}
