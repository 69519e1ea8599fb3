import { afterAll, beforeAll, describe } from 'vitest';
import { findApiServer, type TestApiServer } from './api-server.ts';
import { startApiServerDouble } from './api-server-double.ts';
import { takeApiServer, warmApiServer } from './shared-api-server.ts';

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
  describe(`${title}, on the double`, () => {
    // It takes its ten seconds while the double is tested.
    beforeAll(() => void warmApiServer(found));
    inside(startApiServerDouble, body);
  });
  describe(`${title}, on kube-apiserver`, () => inside(() => takeApiServer(found), body));
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
