import type { Plugin } from 'esbuild';

/**
 * Undici without what the processes never call: its index loads fetch, WebSocket, mocks and caches at once, and with them
 * Node's own copy of all that, a fifth of an agent's start. A name that is missing here fails the build.
 */
const PARTS = `
import Agent from 'undici/lib/dispatcher/agent.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';
import Pool from 'undici/lib/dispatcher/pool.js';
import api from 'undici/lib/api/index.js';
import buildConnector from 'undici/lib/core/connect.js';
import { getGlobalDispatcher } from 'undici/lib/global.js';

Object.assign(Dispatcher.prototype, api);

function request(address, options = {}) {
  const { origin, pathname, search } = new URL(address);
  const { dispatcher = getGlobalDispatcher(), method = options.body ? 'PUT' : 'GET' } = options;
  return dispatcher.request({ ...options, origin, path: pathname + search, method });
}

export { Agent, Pool, buildConnector, request };
`;
/** Nothing asks for HTTP/2 here, and Node's module for it is another tenth of a start. */
const WITHOUT_HTTP2 = `module.exports = () => { throw new Error('this build has no HTTP/2') };`;

export const undiciParts: Plugin = {
  name: 'undici-parts',
  setup(build) {
    build.onResolve({ filter: /^undici$/ }, ({ resolveDir }) => ({
      path: 'undici',
      namespace: 'parts',
      pluginData: resolveDir,
    }));
    build.onLoad({ filter: /undici\/lib\/dispatcher\/client-h2\.js$/ }, () => ({ contents: WITHOUT_HTTP2 }));
    build.onLoad({ filter: /.*/, namespace: 'parts' }, ({ pluginData }: { pluginData: string }) => ({
      contents: PARTS,
      resolveDir: pluginData,
    }));
  },
};
