import { afterAll, beforeAll, describe } from 'vitest';
import { isDeep } from '../depth.ts';
import { findApiServer, type TestApiServer } from './api-server.ts';
import { startApiServerDouble } from './api-server-double.ts';
import { takeApiServer } from './shared-api-server.ts';

const START_MS = 120_000;

/**
 * The same tests against a real kube-apiserver and against the double. Where there is a real one, the double's turn is in
 * `npm run test:deep`; where it is missing, why stands in the output, and the double is all there is.
 */
export function describeApiServers(title: string, body: (server: () => TestApiServer) => void): void {
  const found = findApiServer();
  const isMissing = 'missing' in found;
  if (isMissing || isDeep) describe(`${title}, on the double`, () => inside(startApiServerDouble, body));
  if (isMissing) {
    describe.skip(`${title}, on kube-apiserver: ${found.missing}`, () => inside(startApiServerDouble, body));
    console.warn(`skipped on kube-apiserver: ${found.missing}`);
  } else if (!isDeep) {
    describe(`${title}, on kube-apiserver`, () => inside(() => takeApiServer(found), body));
  }
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
