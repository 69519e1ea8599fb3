import { dirname, join } from 'node:path';
import { MIRROR_PORT } from '../agent.ts';
import { Findings, Skip } from '../checks.ts';
import { Docker, findDocker } from '../docker.ts';
import type { SampleImage } from '../image.ts';
import { digestReferenceOf, type Lab, tagOf } from '../lab.ts';
import { ORIGIN_URL, REGISTRY_NAME, repositoryOf } from '../origin.ts';
import { Podman } from '../podman.ts';
import type { Host, PoolOfHosts } from '../pool.ts';
import type { RunResult } from '../process.ts';
import { CLOUD_ADDRESS } from '../topology.ts';

const UPLINK_KBIT = 100_000;
const HOSTS = 2;
const PRIVATE_PORT = 5002;
/** Nothing listens there, so a podman that goes past its mirror is refused at once and waits for no name server. */
const PRIVATE_NAME = '127.0.0.9:5002';
const USER = 'lab:a good word';
/** What a cut uplink still counts: nothing but questions on links that do not answer. */
const SILENCE_BYTES = 20_000;
const ALIVE = ['/bin/busybox', 'echo', 'alive'];
/** podman gives a container higher limits than its own otherwise, which not everywhere even root may. */
const RUN = ['run', '--rm', '--network=none', '--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024'];
const MIRROR = `127.0.0.1:${MIRROR_PORT}`;

/**
 * podman, which shares library and files with CRI-O, on two hosts by registries.conf: by tag and by digest, an index, a
 * private image with an account for the mirror, and all of it again on an emptied host with the uplink cut.
 */
export async function podman(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const version = await Podman.version();
  if (version === undefined) throw new Skip('no podman on PATH');
  const [image, multi] = [await lab.image('small'), await lab.image('multi')];
  await lab.origin.startProxy({
    netns: lab.topology.cloud,
    address: CLOUD_ADDRESS,
    port: PRIVATE_PORT,
    faults: [`--bearer=${USER}`],
  });
  const pool = await lab.pool({
    hosts: HOSTS,
    uplinkKbit: UPLINK_KBIT,
    extraFlags: [`--registry=${PRIVATE_NAME}=http://${CLOUD_ADDRESS}:${PRIVATE_PORT}`],
  });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const podmans = pool.hosts.map(
    (host) =>
      new Podman({
        netns: host.netns,
        directory: join(directoryOf(host), 'podman'),
        mirrors: [
          { registry: REGISTRY_NAME, location: locationOf(REGISTRY_NAME) },
          { registry: PRIVATE_NAME, location: locationOf(PRIVATE_NAME) },
        ],
      }),
  );
  for (const each of podmans) each.prepare();
  const [first, second] = podmans;
  if (first === undefined || second === undefined) throw new Error('the pool has no two hosts');

  const cold = await pool.countWan(() => Promise.all(podmans.map((each) => each.cli('pull', tagOf(image)))));
  succeeded(findings, 'pulls by tag', cold.result);
  const wanRatio = cold.wan.down / bound.wanBytes;
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.05, loose: 1.1 });
  const named = await first.cli('image', 'inspect', '--format', '{{.Digest}}', tagOf(image));
  findings.isTrue(
    'the digest is the tag’s',
    named.stdout.trim() === image.digest,
    named.stdout + named.stderr,
  );
  succeeded(findings, 'an index', [await first.cli('pull', tagOf(multi))]);
  ran(findings, 'the container runs', await first.cli(...RUN, tagOf(image), ...ALIVE));

  const secret = `${PRIVATE_NAME}/${repositoryOf(image)}:v1`;
  const stranger = await first.cli('pull', secret);
  findings.isTrue(
    'a private image is refused without an account, in the mirror’s words',
    stranger.code !== 0 && stranger.stderr.includes('asks for an account'),
    stranger.stderr,
  );
  const withAccount = (each: Podman): Promise<RunResult> =>
    each.cli('pull', `--authfile=${each.account(locationOf(PRIVATE_NAME), USER)}`, secret);
  // A tag is answered offline where two members agree.
  succeeded(findings, 'a private image with one', await Promise.all(podmans.map(withAccount)));

  await pool.setUplink('down');
  await second.reset();
  const cut = await pool.countWan(async () => [
    await second.cli('pull', tagOf(image)),
    await second.cli('pull', digestReferenceOf(image)),
    await second.cli('pull', tagOf(multi)),
    await withAccount(second),
  ]);
  succeeded(findings, 'cloud cut: by tag, by digest, an index, private', cut.result);
  findings.atMost('cloud cut: bytes from the WAN', cut.wan.down, {
    strict: SILENCE_BYTES,
    loose: SILENCE_BYTES,
  });
  ran(findings, 'cloud cut: the container runs', await second.cli(...RUN, tagOf(multi), ...ALIVE));
  findings.isTrue('cloud cut: still nothing for strangers', (await second.cli('pull', secret)).code !== 0);
  findings.add({
    podman: version,
    bound,
    wan: cold.wan,
    wanRatio,
    seconds: secondsOf(cold.result),
    cutSeconds: secondsOf(cut.result),
    refused: stranger.stderr.trim(),
  });
  return findings;
}

/**
 * docker on two hosts by `registry-mirrors`: images of docker.io, whose requests name no registry; both at once, an index,
 * and again on emptied hosts with the uplink cut.
 */
export async function docker(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const binaries = findDocker();
  if (binaries === undefined) throw new Skip('no dockerd on PATH, nor fetched by test/docker/fetch.sh');
  const [image, multi] = [await lab.image('small'), await lab.image('multi')];
  const pool = await lab.pool({
    hosts: HOSTS,
    uplinkKbit: UPLINK_KBIT,
    extraFlags: [`--registry=docker.io=${ORIGIN_URL}`],
  });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const dockers = pool.hosts.map(
    (host) =>
      new Docker({
        binaries,
        netns: host.netns,
        directory: join(directoryOf(host), 'docker'),
        mirror: `http://${MIRROR}`,
      }),
  );
  try {
    await Promise.all(dockers.map((each) => each.start()));
    await pullAndRun(findings, { pool, dockers, image, multi, boundBytes: bound.wanBytes });
    const version = await dockers[0]?.cli('version', '--format', '{{.Server.Version}}');
    findings.add({ docker: version?.stdout.trim(), bound });
  } finally {
    await Promise.all(dockers.map((each) => each.stop()));
  }
  return findings;
}

async function pullAndRun(
  findings: Findings,
  site: {
    pool: PoolOfHosts;
    dockers: readonly Docker[];
    image: SampleImage;
    multi: SampleImage;
    boundBytes: number;
  },
): Promise<void> {
  const { pool, dockers, image, multi, boundBytes } = site;
  const tag = `${repositoryOf(image)}:v1`;
  const digest = `${repositoryOf(image)}@${image.digest}`;
  const index = `${repositoryOf(multi)}:v1`;
  const onAll = (act: (each: Docker) => Promise<RunResult>): Promise<RunResult[]> =>
    Promise.all(dockers.map(act));

  const cold = await pool.countWan(() => onAll((each) => each.cli('pull', tag)));
  succeeded(findings, 'pulls by tag', cold.result);
  const wanRatio = cold.wan.down / boundBytes;
  findings.atMost('WAN bytes against one stream', wanRatio, { strict: 1.05, loose: 1.1 });
  findings.none(
    'the digest is the tag’s',
    cold.result.filter(({ stdout }) => !stdout.includes(image.digest)).map(({ stdout }) => stdout.trim()),
  );
  const indexed = await onAll((each) => each.cli('pull', index));
  succeeded(findings, 'an index', indexed);
  for (const result of await onAll((each) => each.cli('run', '--rm', '--network=none', tag, ...ALIVE))) {
    ran(findings, 'the container runs', result);
  }

  await pool.setUplink('down');
  await Promise.all(dockers.map((each) => each.reset()));
  const cut = await pool.countWan(async () => ({
    byTag: await onAll((each) => each.cli('pull', tag)),
    byDigest: await onAll((each) => each.cli('pull', digest)),
    index: await onAll((each) => each.cli('pull', index)),
  }));
  const { byTag, byDigest } = cut.result;
  succeeded(findings, 'cloud cut: by tag, by digest, an index', [...byTag, ...byDigest, ...cut.result.index]);
  // Its content is there by then: what takes long is a question to a name server that nobody answers, 10 s for each.
  findings.atMost('cloud cut: slowest pull by digest, seconds', Math.max(...secondsOf(byDigest)), {
    strict: 2,
    loose: 9,
  });
  findings.atMost('cloud cut: bytes from the WAN', cut.wan.down, {
    strict: SILENCE_BYTES,
    loose: SILENCE_BYTES,
  });
  for (const result of await onAll((each) => each.cli('run', '--rm', '--network=none', index, ...ALIVE))) {
    ran(findings, 'cloud cut: the container runs', result);
  }
  findings.add({
    wan: cold.wan,
    wanRatio,
    seconds: { tag: secondsOf(cold.result), index: secondsOf(indexed) },
    cutSeconds: {
      tag: secondsOf(byTag),
      digest: secondsOf(byDigest),
      index: secondsOf(cut.result.index),
    },
  });
}

/** As registries.conf and auth.json write it: no colon in a path. */
function locationOf(registry: string): string {
  return `${MIRROR}/${registry.replace(':', '_')}`;
}

function succeeded(findings: Findings, name: string, results: readonly RunResult[]): void {
  findings.none(
    name,
    results.filter(({ code }) => code !== 0).map(({ stderr }) => stderr.trim()),
  );
}

/** Of each pull, in the order that they were asked for. */
function secondsOf(results: readonly RunResult[]): number[] {
  return results.map(({ seconds }) => seconds);
}

function ran(findings: Findings, name: string, { stdout, stderr }: RunResult): void {
  findings.isTrue(name, stdout.trim() === 'alive', stdout || stderr);
}

/** Where a host keeps what is its own; taken away with the pool. */
function directoryOf(host: Host): string {
  if (host.agent === undefined) throw new Error(`${host.name} has no agent`);
  return dirname(host.agent.logFile);
}
