import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PEER_PORT } from '../agent.ts';
import { Findings } from '../checks.ts';
import type { SampleImage } from '../image.ts';
import { digestReferenceOf, type Lab } from '../lab.ts';
import { type Host, wrongBlobs } from '../pool.ts';
import { listens } from '../proc.ts';
import { Daemon, inNetns, waitUntil } from '../process.ts';
import { script } from '../script.ts';
import { checkPulls, lastLine, lastPull, pullOn, pullOnAll, pullWithRetries } from './parts.ts';

const UPLINK_KBIT = 100_000;
/** containerd keeps a wrong ingest until its garbage collection, some seconds later; kubelet's own retry is as patient. */
const RETRY = { attempts: 4, pauseMs: 3_000 };
const FLIP_EVERY = 64 * 1024;

/**
 * A member with bad memory: what it reads from the origin is changed before it hashes it, so its claims fit its bytes.
 * Nobody may end with wrong content, and only the member itself may fail.
 */
export async function badMemory(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('medium');
  const port = 5999;
  const bad = 2;
  const pool = await lab.pool({
    hosts: lab.options.hosts,
    uplinkKbit: UPLINK_KBIT,
    originOf: (index) => (index === bad ? `http://127.0.0.1:${port}` : lab.origin.url),
  });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const victim = pool.host(bad);
  await lab.origin.startProxy({
    netns: victim.netns,
    address: '127.0.0.1',
    port,
    faults: ['--corrupt'],
  });
  const { result: ends, wan } = await pool.countWan(() =>
    Promise.all(pool.hosts.map((host) => pullWithRetries(host, image, RETRY))),
  );
  const others = ends.filter((end) => end.last.host !== victim);
  const own = ends.find((end) => end.last.host === victim);
  const pulls = others.map((end) => end.last);
  // Bytes that the runtime already has cannot be called back: such a pull ends in a digest error, and the next one is right.
  const failedAttempts = others.flatMap((end) => end.failed);
  const unclear = failedAttempts.filter((failure) => !/digest|502|unexpected EOF/i.test(failure));
  findings.none('the healthy: an attempt that fails names the digest', unclear);
  await checkPulls(findings, 'the healthy, in the end', pulls, image);
  const kept = (await wrongBlobs(victim, image)).filter((problem) => problem.includes('holds'));
  findings.none('wrong content on the bad member', kept);
  const timeRatio = Math.max(...others.map((end) => end.seconds)) / bound.seconds;
  findings.add({
    bound,
    wan,
    wanRatio: wan.down / bound.wanBytes,
    timeRatio,
    failedAttempts,
    badMember: own?.last.result.code === 0 ? 'ended right' : (own?.failed.at(-1) ?? ''),
  });
  // A second reading of everything that was read wrong or next to it is the price; a runtime that tries again adds to it.
  findings.atMost('WAN bytes against one stream', wan.down / bound.wanBytes, { strict: 1.5, loose: 3.2 });
  findings.atMost('last pull of the healthy against the bound', timeRatio, { strict: 3, loose: 12 });
  return findings;
}

/** A holder whose disk has changed under it: what it sends differs from what it claims. */
export async function corruptPeer(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('medium');
  const pool = await lab.pool({ hosts: 4, uplinkKbit: UPLINK_KBIT });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const holder = pool.host(0);
  await checkPulls(findings, 'the holder', [await pullOn(holder, image)], image);
  const flipped = flipStoredBytes(holder, image);
  findings.atLeast('stored blobs changed', flipped, { strict: 1, loose: 1 });
  const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts.slice(1), image));
  await checkPulls(findings, 'the others', pulls, image);
  findings.add({
    bound,
    wan,
    wanRatio: wan.down / bound.wanBytes,
    timeRatio: lastPull(pulls) / bound.seconds,
  });
  findings.atMost('WAN bytes against one stream', wan.down / bound.wanBytes, { strict: 1.1, loose: 1.5 });
  return findings;
}

/** Something that is no agent listens at a member's address: answers rubbish, or nothing. */
export async function rubbishPeer(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const image = await lab.image('medium');
  const pool = await lab.pool({ hosts: 4, uplinkKbit: UPLINK_KBIT });
  const bound = await lab.bound(pool, UPLINK_KBIT, image);
  const bad = pool.host(3);
  await bad.agent?.stop();
  const double = new Daemon({
    label: 'rubbish peer',
    command: inNetns(bad.netns, script('rubbish-peer.ts', bad.address, String(PEER_PORT))),
    logFile: '/dev/null',
  });
  try {
    await waitUntil(() => listens(double.pid, PEER_PORT), {
      timeoutMs: 10_000,
      describe: () => 'the rubbish peer does not listen',
    });
    const { result: pulls, wan } = await pool.countWan(() => pullOnAll(pool.hosts.slice(0, 3), image));
    await checkPulls(findings, 'the others', pulls, image);
    const again = await pullOn(pool.host(0), image, { reference: digestReferenceOf(image) });
    findings.none('a second pull', again.result.code === 0 ? [] : [lastLine(again.result.stderr)]);
    findings.add({
      bound,
      wan,
      wanRatio: wan.down / bound.wanBytes,
      timeRatio: lastPull(pulls) / bound.seconds,
    });
    findings.atMost('WAN bytes against one stream', wan.down / bound.wanBytes, { strict: 1.02, loose: 1.1 });
    findings.atMost('last pull against the bound', lastPull(pulls) / bound.seconds, {
      strict: 1.4,
      loose: 5,
    });
  } finally {
    await double.stop();
  }
  return findings;
}

/** Turns over bytes in every file of the agent's store that is as large as one of the image's layers. */
function flipStoredBytes(host: Host, image: SampleImage): number {
  const root = host.agent?.data;
  if (root === undefined) return 0;
  const sizes = new Set(image.blobs.map((blob) => blob.size).filter((size) => size > FLIP_EVERY));
  let flipped = 0;
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const path = join(root, name);
    const facts = statSync(path, { throwIfNoEntry: false });
    if (facts?.isFile() !== true || !sizes.has(facts.size)) continue;
    const file = openSync(path, 'r+');
    try {
      const byte = Buffer.alloc(1);
      for (let at = 0; at < facts.size; at += FLIP_EVERY) {
        readSync(file, byte, 0, 1, at);
        byte[0] = (byte[0] ?? 0) ^ 0xff;
        writeSync(file, byte, 0, 1, at);
      }
    } finally {
      closeSync(file);
    }
    flipped += 1;
  }
  return flipped;
}
