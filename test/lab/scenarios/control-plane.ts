import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { findApiServer, startApiServer, type TestApiServer } from '../../support/kube/api-server.ts';
import { openCrd } from '../../support/kube/fixtures.ts';
import { Skip } from '../checks.ts';
import { makeToken } from '../gatekeeper.ts';
import { askHub } from '../hub-api.ts';
import type { Door, Lab } from '../lab.ts';
import { ORIGIN_URL, REGISTRY_NAME } from '../origin.ts';
import { listens } from '../proc.ts';
import { Daemon, inNetns, mustRun, type RunResult, run, waitUntil } from '../process.ts';
import { CLOUD_ADDRESS } from '../topology.ts';

const MQTT_PORT = 6183;
const API_PORT = 6190;
const START_MS = 40_000;
const CRD = fileURLToPath(new URL('../../../charts/tidepool/crds/imageprefetches.yaml', import.meta.url));

/** A broker of the hub, as agents find it over their uplinks. */
export const HUB_URL = `mqtts://${CLOUD_ADDRESS}:${MQTT_PORT}`;
const API_URL = `https://${CLOUD_ADDRESS}:${API_PORT}`;
export const NAMESPACE = 'kube-system';

/** kube-apiserver, etcd and the hub in the cloud's namespace, and kubectl beside them. */
export class ControlPlane implements Door {
  readonly server: TestApiServer;
  readonly #netns: string;
  readonly #directory: string;
  readonly #bundle: string;
  #hub: Daemon | undefined;

  private constructor(server: TestApiServer, netns: string, directory: string, bundle: string) {
    this.#bundle = bundle;
    this.server = server;
    this.#netns = netns;
    this.#directory = directory;
  }

  /** Both CRDs stand, and the hub answers. @throws Skip where a program is missing */
  static async start(lab: Lab): Promise<ControlPlane> {
    const found = findApiServer();
    if ('missing' in found) throw new Skip(found.missing);
    const version = await run(['kubectl', 'version', '--client']).catch(() => undefined);
    if (version?.code !== 0) throw new Skip('kubectl not found on PATH');
    const netns = lab.topology.cloud;
    const server = await startApiServer(found, { enter: (command) => inNetns(netns, command) });
    const directory = mkdtempSync(join(tmpdir(), 'tidepool-control-plane-'));
    const bundle = join(dirname(lab.options.bundle), 'tidepool-hub.mjs');
    const plane = new ControlPlane(server, netns, directory, bundle);
    try {
      await plane.#defineKinds();
      await plane.#startHub();
    } catch (error) {
      await plane.stop();
      throw error;
    }
    return plane;
  }

  async stop(): Promise<void> {
    await this.#hub?.stop();
    await this.server.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async kubectl(...args: string[]): Promise<RunResult> {
    return await this.#kubectl(args, '');
  }

  /** `kubectl apply -f -` */
  async apply(...objects: readonly object[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    await this.#kubectl(['apply', '--filename=-'], JSON.stringify(list));
  }

  /** An answer of the hub's API. */
  get<T>(route: string): Promise<T> {
    return askHub<T>({ netns: this.#netns, data: this.#data, port: API_PORT }, route);
  }

  async flags(pool: string): Promise<readonly string[]> {
    const init = { netns: this.#netns, bundle: this.#bundle, pool, hub: API_URL, data: this.#data };
    return [`--join=${await makeToken(init)}`, `--enroll-url=${API_URL}`];
  }

  /** What the hub said last, for an error message. */
  tail(): string {
    return this.#hub?.tail() ?? '';
  }

  async #kubectl(args: readonly string[], input: string): Promise<RunResult> {
    const flags = [
      `--kubeconfig=${this.server.kubeconfig}`,
      `--cache-dir=${join(this.#directory, 'kubectl')}`,
    ];
    return await mustRun(inNetns(this.#netns, ['kubectl', ...flags, ...args]), { input, timeoutMs: 30_000 });
  }

  async #defineKinds(): Promise<void> {
    const nodePools = openCrd('apps.openyurt.io', 'NodePool', 'nodepools', 'Cluster', ['v1beta2']);
    await this.apply(parse(readFileSync(CRD, 'utf8')) as object, nodePools);
    await this.kubectl('wait', '--for=condition=Established', '--timeout=20s', 'crd', '--all');
    await waitUntil(
      () =>
        this.server.call('GET', `/api/v1/namespaces/${NAMESPACE}`).then(
          () => true,
          () => false,
        ),
      { timeoutMs: START_MS, everyMs: 200, describe: () => `namespace ${NAMESPACE} does not come` },
    );
  }

  get #data(): string {
    return join(this.#directory, 'hub');
  }

  async #startHub(): Promise<void> {
    const daemon = new Daemon({
      label: 'hub',
      logFile: join(this.#directory, 'hub.log'),
      command: inNetns(this.#netns, [
        process.execPath,
        this.#bundle,
        'run',
        `--kubeconfig=${this.server.kubeconfig}`,
        `--mqtt=${CLOUD_ADDRESS}:${MQTT_PORT}`,
        `--api=0.0.0.0:${API_PORT}`,
        `--data=${this.#data}`,
        `--registry=${REGISTRY_NAME}=${ORIGIN_URL}`,
      ]),
    });
    this.#hub = daemon;
    await waitUntil(
      () => {
        if (!daemon.running) throw new Error(`the hub ended at once: ${daemon.tail()}`);
        return [MQTT_PORT, API_PORT].every((port) => listens(daemon.pid, port));
      },
      { timeoutMs: START_MS, describe: () => `the hub does not listen: ${daemon.tail()}` },
    );
  }
}
