import { join } from 'node:path';
import type { RuntimeStatus } from '../../../edge/ops/api.ts';
import { ContentConnection } from '../../../edge/runtime/containerd/content-connection.ts';
import { ImagePins } from '../../../edge/runtime/containerd/image-pins.ts';
import { GrpcConnection } from '../../../edge/runtime/cri/grpc-connection.ts';
import { OPS_PORT } from '../agent.ts';
import { Findings, Skip } from '../checks.ts';
import { type Lab, tagOf } from '../lab.ts';
import { REGISTRY_NAME } from '../origin.ts';
import type { Host, PoolOfHosts } from '../pool.ts';
import { wrongBlobs } from '../pool.ts';
import { inNetns, type RunResult, run } from '../process.ts';

/**
 * Two hosts whose containerd serves CRI. It is pointed at the agents by their own command; a pull on each goes into the
 * store and from there into the runtime, where a CRI client finds it as kubelet does, and the uplink carries the image
 * once. Then containerd starts without its hosts directory, and the agent says what to mend.
 */
export async function cri(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const release = lab.newest();
  if (release.major < 2)
    throw new Skip(`containerd ${release.version} has no CRI of its own to ask; set CONTAINERD_BIN`);
  const image = await lab.image('large');
  const uplinkKbit = 400_000;
  const pool = await lab.pool({ hosts: 2, uplinkKbit, release, cri: true });
  const bound = await lab.bound(pool, uplinkKbit, image);

  const before = await selfTest(pool.host(0));
  findings.isTrue('before configure: not configured', before.mirror === 'not-configured', shown(before));
  const configured = await eachHost(pool, (host) =>
    agentCli(
      lab,
      host,
      'containerd',
      'configure',
      `--registry=${REGISTRY_NAME}`,
      `--root=${host.containerd.hostRoot}`,
    ),
  );
  findings.none('configure succeeds', failed(configured));
  const after = await eachHost(pool, selfTest);
  findings.none(
    'self-test says yes, without a restart',
    after.filter(({ mirror }) => mirror !== 'yes').map(shown),
  );

  const { result: pulls, wan } = await pool.countWan(() =>
    eachHost(pool, (host) => agentCli(lab, host, 'pull', '--runtime', tagOf(image))),
  );
  findings.none('pulls into the runtime succeed', failed(pulls));
  findings.none('every digest right', (await eachHost(pool, (host) => wrongBlobs(host, image))).flat());
  const lists = await eachHost(pool, listImages);
  findings.none(
    "kubelet's view has it, by tag and digest",
    lists
      .filter(
        (list) => !list.includes(tagOf(image)) || !list.some((name) => name.endsWith(`@${image.digest}`)),
      )
      .map(String),
  );
  const wanRatio = wan.down / bound.wanBytes;
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.02, loose: 1.04 });

  await checkPins(findings, pool.host(0), tagOf(image));
  const again = await pool.countWan(() =>
    eachHost(pool, (host) => agentCli(lab, host, 'pull', '--runtime', tagOf(image))),
  );
  findings.atMost('WAN bytes of the same pull again', again.wan.down, { strict: 100_000, loose: 100_000 });
  const check = await agentCli(
    lab,
    pool.host(0),
    'containerd',
    'configure',
    '--check',
    `--root=${pool.host(0).containerd.hostRoot}`,
  );
  findings.isTrue('--check ends with 0', check.code === 0, `${check.code}: ${check.stdout}`);

  // As on a node where nobody set config_path.
  const host = pool.host(1);
  await host.containerd.stop();
  host.containerd.readsHosts = false;
  await host.containerd.start();
  const no = await selfTest(host);
  findings.isTrue('without config_path: no', no.mirror === 'no', shown(no));
  findings.isTrue(
    'the fix names file and setting',
    no.fix?.includes('/etc/containerd/config.toml') === true && no.fix.includes('config_path'),
    shown(no),
  );
  const refused = await pool.countWan(() => agentCli(lab, host, 'pull', '--runtime', tagOf(image)));
  findings.isTrue(
    'a pull into that runtime fails and says why',
    refused.result.code === 1 && refused.result.stderr.includes('RUNTIME_NOT_CONFIGURED'),
    refused.result.stderr,
  );
  const checkNo = await agentCli(
    lab,
    host,
    'containerd',
    'configure',
    '--check',
    `--root=${host.containerd.hostRoot}`,
  );
  findings.isTrue('--check ends with 1', checkNo.code === 1, `${checkNo.code}: ${checkNo.stdout}`);
  findings.add({
    containerd: release.version,
    bound,
    wan,
    wanRatio,
    seconds: pulls.map((pull) => pull.seconds),
    agentPeakMib: pool.agentPeakMib(),
    fix: no.fix,
  });
  return findings;
}

export async function eachHost<T>(pool: PoolOfHosts, act: (host: Host) => Promise<T>): Promise<T[]> {
  return await Promise.all(pool.hosts.map(act));
}

export function agentCli(lab: Lab, host: Host, ...args: string[]): Promise<RunResult> {
  return run(inNetns(host.netns, [process.execPath, lab.options.bundle, ...args]), { timeoutMs: 240_000 });
}

export async function selfTest(host: Host): Promise<RuntimeStatus> {
  const url = `http://127.0.0.1:${OPS_PORT}/v1/self-test`;
  const { stdout, stderr } = await run(inNetns(host.netns, ['curl', '-sS', '-X', 'POST', '-m', '60', url]));
  return parseStatus(stdout === '' ? `{"mirror":"unknown","reason":${JSON.stringify(stderr)}}` : stdout);
}

function parseStatus(text: string): RuntimeStatus {
  return JSON.parse(text) as RuntimeStatus;
}

/** Tags and digests, as kubelet asks for them. */
export async function listImages(host: Host): Promise<string[]> {
  const connection = new GrpcConnection(host.containerd.socket);
  try {
    return (await connection.listImages()).flatMap(({ tags, digests }) => [...tags, ...digests]);
  } finally {
    connection.close();
  }
}

export function failed(results: readonly RunResult[]): string[] {
  return results.filter(({ code }) => code !== 0).map(({ stderr }) => stderr.trim());
}

export function shown({ mirror, reason, fix }: RuntimeStatus): string {
  return `${mirror}: ${reason ?? ''} ${fix ?? ''}`;
}

/** As for images of prefetch jobs: kubelet leaves alone what its runtime says is pinned. */
async function checkPins(findings: Findings, { containerd, netns }: Host, name: string): Promise<void> {
  const pins = new ImagePins(
    { connect: async (socket) => new ContentConnection(socket) },
    { socket: containerd.socket },
  );
  const ctr = [join(containerd.release.directory, 'ctr'), '--address', containerd.socket, '-n', 'k8s.io'];
  const list = async (): Promise<string> =>
    (await run(inNetns(netns, [...ctr, 'images', 'ls', `name==${name}`]))).stdout;
  const signal = AbortSignal.timeout(30_000);
  findings.isTrue('the runtime takes a pin', await pins.pin(name, signal));
  const pinned = await list();
  findings.isTrue('and shows it', pinned.includes('io.cri-containerd.pinned=pinned'), pinned);
  findings.isTrue('and gives it up again', await pins.unpin(name, signal));
  const unpinned = await list();
  findings.isTrue(
    'without the image going',
    unpinned.includes(name) && !unpinned.includes('pinned='),
    unpinned,
  );
}
