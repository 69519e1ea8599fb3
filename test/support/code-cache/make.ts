/**
 * The bytecode of both programs, from a small pool that does once what pools do: a hub with its own authority, two agents,
 * an image that one gets from its registry and the other from the neighbour.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { programFiles } from '../../../shared/launch.ts';
import { Cleanup } from '../cleanup.ts';
import { freePort } from '../free-port.ts';
import { type AgentInit, makeJoinToken, startAgent, startHub } from '../processes.ts';
import { buildImage, hostPlatform, SampleRegistry } from '../registry/index.ts';
import { pullImage } from '../runtime-pull.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const ROOMS = { 'tidepool-agent': 'edge', 'tidepool-hub': 'cloud' } as const;
const REGISTRY = 'registry.example';
const POOL = 'pool';
const LAYER_BYTES = 3_000_000;

/**
 * Writes the code caches of the programs in `dist`. A program that does not run here goes without: it starts all the same,
 * and later.
 */
export async function makeCodeCaches(dist: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'tidepool-code-cache-'));
  const cleanup = new Cleanup();
  cleanup.add('files', () => rmSync(directory, { recursive: true, force: true }));
  try {
    await runPool(dist, directory, cleanup);
  } catch (error) {
    process.stderr.write(
      `not all code is compiled ahead of time: ${error instanceof Error ? error.message : error}\n`,
    );
  } finally {
    for (const failure of await cleanup.run()) process.stderr.write(`${failure}\n`);
  }
}

async function runPool(dist: string, directory: string, cleanup: Cleanup): Promise<void> {
  const image = await buildImage({ layers: [1, 2].map((seed) => ({ bytes: LAYER_BYTES, seed })) });
  const registry = new SampleRegistry({ poolOf: () => POOL });
  await registry.start();
  cleanup.add('registry', () => registry.stop());
  registry.addImage('app', 'v1', image);

  const documents = join(directory, 'documents');
  mkdirSync(documents);
  const recordedHub = await recorder(dist, directory, 'tidepool-hub');
  const hub = await startHub(cleanup, { bundle: recordedHub, directory, documents });
  const plain = join(dist, 'tidepool-agent.mjs');
  const token = await makeJoinToken(hub, { bundle: join(dist, 'tidepool-hub.mjs'), pool: POOL, uses: 2 });
  const init = async (node: string, address: string): Promise<AgentInit> => ({
    ...{
      bundle: plain,
      directory,
      node,
      pool: POOL,
      address,
      peerPort: await freePort(address),
      join: token,
    },
    flags: [`--hub=${hub.broker}`, `--registry=${REGISTRY}=${registry.url}`],
  });
  const first = await init('first', '127.0.0.1');
  // What enrolls, an agent does once in its life.
  await (await startAgent(cleanup, first)).stop();
  rmSync(join(directory, `${first.node}.log`));
  const agent = await startAgent(cleanup, {
    ...first,
    bundle: await recorder(dist, directory, 'tidepool-agent'),
  });
  const second = await startAgent(cleanup, await init('second', '127.0.0.2'));
  const wanted = { registry: REGISTRY, repository: 'app', reference: 'v1', platform: hostPlatform() };
  for (const { mirror } of [agent, second, agent]) await pullImage({ ...wanted, mirror });
}

/** Starts a program as its launcher does, and writes its code cache when it ends. */
async function recorder(dist: string, directory: string, name: keyof typeof ROOMS): Promise<string> {
  const outfile = join(directory, `${name}.mjs`);
  const init = [name, dist, programFiles(dist, name).codeCache].map((text) => JSON.stringify(text));
  await build({
    stdin: {
      contents: `import './${ROOMS[name]}/engine.ts';
        import { record } from './test/support/code-cache/record.ts';
        record(${init.join(', ')});`,
      resolveDir: ROOT,
    },
    ...{ outfile, bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' },
  });
  return outfile;
}
