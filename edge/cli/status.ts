import { formatBytes } from '../../shared/units.ts';
import { opsAddress } from '../config/load-settings.ts';
import type { AgentStatus, BundleStatus, CacheStatus, EventStatus, LinkStatus } from '../ops/api.ts';
import type { ContentStatus } from '../ops/content-status.ts';
import { formatSeconds, table } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { OpsClient } from './ops-client.ts';
import { storeText } from './store-text.ts';

export interface StatusFlags {
  readonly ops?: string;
  readonly config?: string;
  readonly json?: boolean;
}

/** Asks the running agent how it is. */
export async function statusCommand(io: CliIo, flags: StatusFlags): Promise<ExitCode> {
  const client = new OpsClient(opsAddress(flags.ops, flags.config, io.machine), io.signal);
  try {
    const status = await client.status();
    io.stdout.write(
      flags.json === true ? `${JSON.stringify(status, null, 2)}\n` : statusText(status, io.clock.now()),
    );
    return EXIT.ok;
  } finally {
    await client.close();
  }
}

function contentText(content: ContentStatus): string {
  const { state, problem, blobs, bytes, checkedBytes, wrong, images, sharedImages, directory } = content;
  const why = problem === null ? '' : `; ${problem}`;
  if (state === 'absent') return `${directory} is not there${why}`;
  const checked = checkedBytes === bytes ? '' : `, ${formatBytes(checkedBytes)} of it checked`;
  const bad = wrong === 0 ? '' : `, ${wrong} blobs are not what their names say`;
  return `${formatBytes(bytes)} in ${blobs} blobs${checked}${bad}, ${sharedImages} of ${images} images shared${why}`;
}

function cacheText(cache: CacheStatus, ago: (at: number) => string): string {
  const { quota, evictedBytes, evictedBlobs, shortBytes, fullSince = null } = cache;
  const full = fullSince === null ? '' : `, the disk is full for ${ago(fullSince)}: nothing more is kept`;
  const bound = quota === null ? 'no quota' : `at most ${formatBytes(quota)}`;
  const gone = evictedBlobs === 0 ? '' : `, ${formatBytes(evictedBytes)} in ${evictedBlobs} blobs evicted`;
  const short = shortBytes === 0 ? '' : `, ${formatBytes(shortBytes)} too many in use or not held elsewhere`;
  return `${bound}${gone}${short}${full}`;
}

/** Nothing where there were none. */
function bundleRows({ imported, importedBytes, refused, importing }: BundleStatus): [string, string][] {
  const parts = [
    ...(importing ? ['one is being imported'] : []),
    ...(imported === 0 ? [] : [`${imported} imported, ${formatBytes(importedBytes)} new`]),
    ...(refused === 0 ? [] : [`${refused} refused`]),
  ];
  return parts.length === 0 ? [] : [['bundles', parts.join(', ')]];
}

/** @param now ms since 1970 */
export function statusText(status: AgentStatus, now: number): string {
  const ago = (at: number): string => formatSeconds((now - at) / 1000);
  const { breakers, counters, events, hub, members, prefetches, registries, transfers } = status;
  const live = members.filter((member) => member.live).length;
  const link = hub === null ? 'none set; neighbours by --peers' : linkText(hub, now);
  const facts = [
    ['node', `${status.node}, pool ${status.pool}, ${status.address}`],
    ['agent', `${status.version}, ${status.platform}, up ${ago(status.startedAt)}`],
    ['mirror', status.mirror],
    ['peers', status.peers],
    ['hub', link],
    ...(status.identity === undefined ? [] : [['certificate', identityText(status.identity, now)]]),
    ['runtime', runtimeText(status.runtime)],
    ['tuning', status.tuningHash ?? 'as this node is set; nothing from a hub'],
    ['stored', `${formatBytes(counters.storedBytes)} in ${counters.blobs} blobs`],
    ...(status.content === undefined ? [] : [["containerd's content", contentText(status.content)]]),
    ...(status.cache === undefined ? [] : [['cache', cacheText(status.cache, ago)]]),
    ...(events === undefined || events.waiting === 0 ? [] : [['to tell the hub', eventsText(events)]]),
    ...(status.store === undefined ? [] : [['store', storeText(status.store, ago)]]),
    ...(status.bundles === undefined ? [] : bundleRows(status.bundles)),
    ['over the WAN', formatBytes(counters.wanBytes)],
    ['from neighbours', formatBytes(counters.peerBytes)],
    ['to neighbours', formatBytes(counters.servedPeerBytes)],
    ['to runtimes', formatBytes(counters.servedRuntimeBytes)],
  ];
  const sections = [table(facts)];
  const { runtime } = status;
  if (runtime.mirror === 'no' || runtime.mirror === 'not-configured') {
    sections.push(
      `\npods are not pulled by way of this agent\n  ${runtime.reason ?? ''}\n  to do: ${runtime.fix ?? ''}\n`,
    );
  }
  const open = breakers ?? [];
  const down = registries.filter(
    ({ registry, downSince }) => downSince !== null && open.every((each) => each.registry !== registry),
  );
  if (down.length + open.length > 0) {
    const rows = [
      ...open.map(({ registry, origin, since, why, probeAt }) => [
        registry,
        origin,
        `no answer for ${ago(since)}: ${why}`,
        probeAt === null ? 'trying now' : `next try in ${formatSeconds(Math.max(0, probeAt - now) / 1000)}`,
      ]),
      ...down.map(({ registry, url, downSince }) => [
        registry,
        url,
        `no answer for ${ago(downSince ?? now)}`,
      ]),
    ];
    sections.push(`\nregistries out of reach\n${table(rows)}`);
  }
  if (members.length > 0) {
    const rows = members.map(({ node, address, live, setAside, source }) => [
      `  ${node}`,
      address,
      setAside ? 'set aside' : live ? 'live' : 'silent',
      source,
    ]);
    sections.push(`\nneighbours: ${live} of ${members.length} live\n${table(rows)}`);
  }
  if (transfers.length > 0) {
    const rows = transfers.map(({ digest, repository, have, pieces, size, seconds }) => [
      `  ${digest.slice(0, 19)}`,
      repository,
      `${have} of ${pieces} pieces of ${formatBytes(size)}`,
      formatSeconds(seconds),
    ]);
    sections.push(`\nin progress\n${table(rows)}`);
  }
  if (prefetches.length > 0) {
    const rows = prefetches.map(({ id, state, doneBytes, totalBytes, error }) => [
      `  ${id}`,
      state,
      `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`,
      error === undefined ? '' : `${error.message} (${error.code})`,
    ]);
    sections.push(`\nprefetches\n${table(rows)}`);
  }
  if (status.kept !== undefined && status.kept.length > 0) {
    const rows = status.kept.map(({ id, images, leftMs }) => [
      `  ${id}`,
      images.join(' '),
      `${formatSeconds(leftMs / 1000)} more`,
    ]);
    sections.push(`\nkept after their prefetch\n${table(rows)}`);
  }
  return sections.join('');
}

function eventsText({ waiting, lost }: EventStatus): string {
  const gone = lost === 0 ? '' : `; there was no room for ${lost} more`;
  return `${waiting} ${waiting === 1 ? 'event' : 'events'}${gone}`;
}

function linkText({ connected, lastError, since, state, urls }: LinkStatus, now: number): string {
  const ago = (at: number): string => formatSeconds((now - at) / 1000);
  const where = `(${urls.join(', ')})`;
  const { kind = connected ? 'online' : 'offline', why = lastError ?? undefined, retryAt } = state ?? {};
  const from = state?.since ?? since;
  const reason = why === undefined ? '' : `: ${why}`;
  const next =
    retryAt === undefined ? '' : `; next try in ${formatSeconds(Math.max(0, retryAt - now) / 1000)}`;
  switch (kind) {
    case 'online':
      return `online for ${ago(from)} (${state?.url ?? urls.join(', ')})`;
    case 'connecting':
      return `connecting for ${ago(from)} ${where}`;
    case 'refused':
    case 'offline':
      return `${kind} for ${ago(from)} ${where}${reason}${next}`;
    case 'stopped':
    case 'none':
      return `not connected ${where}`;
  }
}

function identityText(identity: AgentStatus['identity'], now: number): string {
  if (identity === undefined || identity === null) return 'none: --insecure';
  const { state, notAfter, lastError, clockAheadMs } = identity;
  const why = lastError === null ? '' : `; the last attempt: ${lastError}`;
  const ahead =
    clockAheadMs === 0 ? '' : `; this node's clock is ahead by ${formatSeconds(clockAheadMs / 1000)}`;
  const end = notAfter === null ? '' : new Date(notAfter).toISOString();
  switch (state) {
    case 'waiting':
      return `none yet, the mirror works alone${why}`;
    case 'good':
      return `until ${end}, ${formatSeconds(Math.max(0, ((notAfter ?? now) - now) / 1000))} from now${why}${ahead}`;
    case 'lapsed':
      return `ended at ${end}; neighbours take it within the grace, the hub renews it${why}${ahead}`;
    case 'ended':
      return `ended at ${end}, and so has the grace; the hub alone lets this node in again${why}${ahead}`;
    case 'revoked':
      return 'revoked: neither hub nor neighbours take it; enrol this node again with --replace';
    case 'untrusted':
      return `signed by an authority that is trusted no more; enrol this node again with --replace${why}`;
  }
}

function runtimeText({ mirror, reason, runtime, socket }: AgentStatus['runtime']): string {
  const who = runtime ?? socket ?? 'container runtime';
  switch (mirror) {
    case 'yes':
      return `${who} pulls by way of the mirror`;
    case 'no':
      return `${who} does not pull by way of the mirror`;
    case 'not-configured':
      return `${who} has not been pointed at the mirror`;
    case 'unknown':
      return `whether it uses the mirror is not known: ${reason ?? ''}`;
  }
}
