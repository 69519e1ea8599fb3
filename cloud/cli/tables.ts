import { formatBytes } from '../../shared/units.ts';
import type {
  NodeDetailView,
  NodeEventView,
  NodeView,
  PoolView,
  PrefetchView,
} from '../../shared/wire/api.ts';
import { type Column, formatTable } from './columns.ts';

/** Things to do below the list of nodes, and nodes named for each. */
const MAX_FIXES = 10;
const MAX_NAMES = 5;

/** Columns as wide as their longest cell, two spaces between. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = head.map((each, index) => ({
    head: each,
    cell: (row: readonly string[]) => row[index] ?? '',
  }));
  return `${formatTable(columns, rows, undefined).join('\n')}\n`;
}

export const POOL_COLUMNS: readonly Column<PoolView>[] = [
  { head: 'POOL', cell: ({ pool }) => pool },
  { head: 'NODES', cell: ({ nodes }) => String(nodes), right: true },
  { head: 'ONLINE', cell: ({ online }) => String(online), right: true },
  { head: 'TUNED', cell: ({ nodes, tuned }) => `${tuned}/${nodes}`, right: true, drop: 2 },
  { head: 'WAN', cell: ({ wanBytes }) => formatBytes(wanBytes), right: true },
  { head: 'PEERS', cell: ({ peerBytes }) => formatBytes(peerBytes), right: true },
  { head: 'SPARED', cell: sparedOf, right: true, drop: 1 },
];

/** @param now wall clock, ms */
export function nodeColumns(now: number): readonly Column<NodeView>[] {
  return [
    { head: 'NODE', cell: ({ node }) => node },
    { head: 'POOL', cell: ({ pool }) => pool ?? '-' },
    { head: 'STATE', cell: (each) => nodeState(each, now) },
    { head: 'VERSION', cell: ({ version }) => version ?? '-', drop: 2 },
    { head: 'WAN', cell: ({ counters }) => bytesOf(counters?.wanBytes), right: true },
    { head: 'PEERS', cell: ({ counters }) => bytesOf(counters?.peerBytes), right: true },
    { head: 'TUNING', cell: tuningOf },
    { head: 'MIRROR', cell: mirrorOf },
    { head: 'STORED', cell: ({ counters }) => bytesOf(counters?.storedBytes), right: true, drop: 3 },
    { head: 'ADDRESS', cell: ({ address }) => address ?? '-', drop: 4 },
    { head: 'PLATFORM', cell: ({ platform }) => platform ?? '-', drop: 5 },
    { head: 'SEEN', cell: ({ lastSeen }) => seenOf(lastSeen, now), drop: 6, restless: true },
  ];
}

export const PREFETCH_COLUMNS: readonly Column<PrefetchView>[] = [
  { head: 'ID', cell: ({ id }) => id },
  { head: 'STATE', cell: stateOf },
  {
    head: 'DONE',
    cell: ({ succeeded, skipped, desired }) => `${succeeded + skipped}/${desired}`,
    right: true,
  },
  { head: 'FAILED', cell: ({ failed }) => String(failed), right: true },
  { head: 'OFFLINE', cell: ({ offline }) => String(offline), right: true, drop: 4 },
  {
    head: 'BYTES',
    cell: ({ bytes }) => `${formatBytes(bytes.done)}/${formatBytes(bytes.total)}`,
    right: true,
    drop: 3,
  },
  { head: 'WAN', cell: ({ bytes }) => formatBytes(bytes.wan), right: true, drop: 1 },
  { head: 'PEERS', cell: ({ bytes }) => formatBytes(bytes.peer), right: true, drop: 2 },
  {
    head: 'IMAGES',
    cell: ({ images }) =>
      images.length > 2 ? `${images[0]} and ${images.length - 1} more` : images.join(' '),
  },
];

/** @param now wall clock, ms */
export function eventColumns(now: number): readonly Column<NodeEventView>[] {
  return [
    { head: 'WHEN', cell: ({ lastAt }) => `${ago(now - lastAt)} ago`, restless: true },
    { head: 'NODE', cell: ({ node }) => node },
    { head: 'KIND', cell: ({ kind }) => kind },
    { head: 'COUNT', cell: ({ count }) => String(count), right: true },
    { head: 'WHAT', cell: ({ key }) => printable(key ?? '-') },
    { head: 'DETAIL', cell: ({ detail }) => printable(detail ?? ''), drop: 1 },
    { head: 'HEARD', cell: ({ heardAt }) => `${ago(now - heardAt)} ago`, drop: 2, restless: true },
  ];
}

/** What a node says is shown on a person's terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ');
}

export function nodeTable(nodes: readonly NodeView[], now: number): string {
  if (nodes.length === 0) return 'no nodes\n';
  return `${[...formatTable(nodeColumns(now), nodes, undefined), ...runtimeRemarks(nodes)].join('\n')}\n`;
}

export function prefetchTable(prefetches: readonly PrefetchView[]): string {
  if (prefetches.length === 0) return 'no prefetches\n';
  const rows = formatTable(PREFETCH_COLUMNS, prefetches, undefined);
  return `${rows.join('\n')}\n${prefetches.flatMap(remarks).join('')}`;
}

/** Everything that is known of one node. */
export function nodeText(node: NodeDetailView, now: number): string {
  const facts: (readonly [string, string])[] = [
    ['node', node.node],
    ['pool', node.pool ?? '-'],
    ['state', nodeState(node, now)],
    ['seen', seenOf(node.lastSeen, now)],
    ['address', node.address ?? '-'],
    ['version', node.version ?? '-'],
    ['platform', node.platform ?? '-'],
    ['tuning', `${tuningOf(node)}${node.tuningHash === null ? '' : ` (${node.tuningHash.slice(0, 8)})`}`],
    ['mirror', mirrorOf(node)],
    ...(node.runtime?.runtime === undefined ? [] : [['runtime', node.runtime.runtime] as const]),
    ...(node.runtime?.reason === undefined ? [] : [['reason', node.runtime.reason] as const]),
    ...(node.runtime?.fix === undefined ? [] : [['to do', node.runtime.fix] as const]),
  ];
  if (node.counters !== null) {
    const { wanBytes, peerBytes, servedPeerBytes, servedRuntimeBytes, storedBytes, blobs } = node.counters;
    facts.push(
      ['by WAN', formatBytes(wanBytes)],
      ['by peers', formatBytes(peerBytes)],
      ['to peers', formatBytes(servedPeerBytes)],
      ['to runtime', formatBytes(servedRuntimeBytes)],
      ['stored', `${formatBytes(storedBytes)} in ${blobs} blobs`],
    );
  }
  for (const [key, value] of Object.entries(node.labels)) facts.push(['label', `${key}=${value}`]);
  for (const problem of node.tuningProblems) facts.push(['problem', problem]);
  for (const { id, state, doneBytes, totalBytes, waitingFor, error } of node.prefetches) {
    const why = error === undefined ? waitingFor : `${error.message} (${error.code})`;
    const bytes = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    facts.push(['prefetch', `${id}: ${state}, ${bytes}${why === undefined ? '' : `, ${why}`}`]);
  }
  const wide = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${name.padEnd(wide)}  ${value}\n`).join('');
}

/** What there is to do, each thing once with the nodes that it is to be done on. */
export function runtimeRemarks(nodes: readonly NodeView[]): readonly string[] {
  const byFix = new Map<string, string[]>();
  for (const { node, runtime } of nodes) {
    if (runtime?.fix === undefined) continue;
    const known = byFix.get(runtime.fix);
    if (known === undefined) byFix.set(runtime.fix, [node]);
    else known.push(node);
  }
  return [...byFix].slice(0, MAX_FIXES).map(([fix, names]) => {
    const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
    return `RuntimeNotConfigured on ${names.slice(0, MAX_NAMES).join(', ')}${more}: ${fix}`;
  });
}

/** One word for a list. */
export function stateOf(
  view: PrefetchView,
): 'suspended' | 'stuck' | 'failed' | 'done' | 'active' | 'waiting' {
  if (view.suspend) return 'suspended';
  if (view.desired === 0) return 'stuck';
  if (isOver(view)) return view.failed > 0 ? 'failed' : 'done';
  return view.active > 0 || view.bytes.done > 0 ? 'active' : 'waiting';
}

/** True when every selected node is through, one way or the other. */
export function isOver(view: PrefetchView): boolean {
  return view.desired > 0 && view.succeeded + view.failed + view.skipped === view.desired;
}

/** Problems and failures, a line each. */
export function remarks(view: PrefetchView): readonly string[] {
  return [
    ...view.problems.map((problem) => `${view.id}: ${problem}\n`),
    ...view.failedNodes.map(({ node, code, message }) => `${view.id}: ${node}: ${message} (${code})\n`),
  ];
}

/** What of the bytes that came in did not cross the uplink. */
function sparedOf({ wanBytes, peerBytes }: PoolView): string {
  const all = wanBytes + peerBytes;
  return all === 0 ? '-' : `${Math.floor((peerBytes / all) * 100)}%`;
}

function nodeState({ online, lastSeen }: NodeView, now: number): string {
  if (online) return 'online';
  return lastSeen === null ? 'never seen' : `offline ${ago(now - lastSeen)}`;
}

function seenOf(lastSeen: number | null, now: number): string {
  return lastSeen === null ? 'never' : `${ago(now - lastSeen)} ago`;
}

/** Whether the tuning that the pool has now is in force on the node. A hub of before does not say. */
function tuningOf({ tuned }: NodeView): string {
  if (tuned === undefined || tuned === null) return '-';
  return tuned ? 'yes' : 'stale';
}

/** Whether the node's pods are pulled by way of its agent. A hub of before knows no such field. */
function mirrorOf({ runtime }: NodeView): string {
  return runtime?.mirror.replace('-', ' ') ?? 'unknown';
}

function bytesOf(bytes: number | undefined): string {
  return bytes === undefined ? '-' : formatBytes(bytes);
}

function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`;
}
