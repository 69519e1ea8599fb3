import { readFile } from 'node:fs/promises';
import type { Plugin } from 'esbuild';

/**
 * Undici without what the processes never call: its index loads fetch, WebSocket, mocks and caches at once, and with them
 * Node's own copy of all that, a fifth of an agent's start. A name that is missing here fails the build.
 */
const UNDICI = `
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

/** Files of others, and what becomes of their text. */
const CHANGES: readonly { readonly file: RegExp; readonly change: (text: string) => string }[] = [
  {
    // Nothing asks for HTTP/2 here, and Node's module for it is another tenth of a start.
    file: /undici\/lib\/dispatcher\/client-h2\.js$/,
    change: () => `module.exports = () => { throw new Error('this build has no HTTP/2') };`,
  },
  {
    file: /fastify\/lib\/server\.js$/,
    change: (text) => text.replace("const http2 = require('node:http2')", 'const http2 = undefined'),
  },
  {
    // It would keep every 16-bit number as a Buffer from the first packet on, 7 MiB. This is the library's own switch.
    file: /mqtt-packet\/writeToStream\.js$/,
    change: (text) => `${text}\nmodule.exports.cacheNumbers = false;\n`,
  },
];

/** Leaves out of the bundles what libraries bring along and nobody here uses. */
export class VendorParts {
  readonly #left = new Set(CHANGES);

  readonly plugin: Plugin = {
    name: 'vendor-parts',
    setup: (build) => {
      build.onResolve({ filter: /^undici$/ }, ({ resolveDir }) => ({
        path: 'undici',
        namespace: 'parts',
        pluginData: resolveDir,
      }));
      build.onLoad({ filter: /.*/, namespace: 'parts' }, ({ pluginData }: { pluginData: string }) => ({
        contents: UNDICI,
        resolveDir: pluginData,
      }));
      for (const each of CHANGES) {
        build.onLoad({ filter: each.file }, async ({ path }) => {
          const text = await readFile(path, 'utf8');
          const contents = each.change(text);
          if (contents !== text) this.#left.delete(each);
          return { contents };
        });
      }
    },
  };

  /** @throws where a change had nothing to change: the library is another by now */
  check(): void {
    for (const { file } of this.#left) throw new Error(`nothing to change in a file like ${file}`);
  }
}
