import { formatBytes } from '../../shared/units.ts';
import type { NodeView, PoolView, PrefetchView } from '../../shared/wire/api.ts';

/** Things to do below the list of nodes, and nodes named for each. */
const MAX_FIXES = 10;
const MAX_NAMES = 5;

/** Columns as wide as their longest cell, two spaces between. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const lines = all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

export function poolTable(pools: readonly PoolView[]): string {
  if (pools.length === 0) return 'no pools: no document names one, and no agent has come up\n';
  return table(
    ['POOL', 'NODES', 'ONLINE', 'TUNED', 'WAN', 'PEERS'],
    pools.map(({ pool, nodes, online, tuned, wanBytes, peerBytes }) => [
      pool,
      String(nodes),
      String(online),
      `${tuned}/${nodes}`,
      formatBytes(wanBytes),
      formatBytes(peerBytes),
    ]),
  );
}

export function nodeTable(nodes: readonly NodeView[], now: number): string {
  if (nodes.length === 0) return 'no nodes\n';
  const rows = table(
    ['NODE', 'POOL', 'STATE', 'ADDRESS', 'PLATFORM', 'VERSION', 'TUNING', 'MIRROR', 'STORED', 'SEEN'],
    nodes.map((each) => [
      each.node,
      each.pool ?? '-',
      each.online ? 'online' : 'offline',
      each.address ?? '-',
      each.platform ?? '-',
      each.version ?? '-',
      tuningOf(each),
      mirrorOf(each),
      each.counters === null ? '-' : formatBytes(each.counters.storedBytes),
      each.lastSeen === null ? 'never' : `${ago(now - each.lastSeen)} ago`,
    ]),
  );
  return rows + runtimeRemarks(nodes).join('');
}

/** First letters of the hash that the node echoed, and whether that is what its pool has now. */
function tuningOf({ tuningHash, tuned }: NodeView): string {
  return tuningHash === null ? '-' : `${tuningHash.slice(0, 8)}${tuned === false ? ' (old)' : ''}`;
}

/** Whether the node's pods are pulled by way of its agent. A hub of before knows no such field. */
function mirrorOf({ runtime }: NodeView): string {
  return runtime?.mirror.replace('-', ' ') ?? 'unknown';
}

/** What there is to do, each thing once with the nodes that it is to be done on. */
function runtimeRemarks(nodes: readonly NodeView[]): readonly string[] {
  const byFix = new Map<string, string[]>();
  for (const { node, runtime } of nodes) {
    if (runtime?.fix === undefined) continue;
    const known = byFix.get(runtime.fix);
    if (known === undefined) byFix.set(runtime.fix, [node]);
    else known.push(node);
  }
  return [...byFix].slice(0, MAX_FIXES).map(([fix, names]) => {
    const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
    return `RuntimeNotConfigured on ${names.slice(0, MAX_NAMES).join(', ')}${more}: ${fix}\n`;
  });
}

export function prefetchTable(prefetches: readonly PrefetchView[]): string {
  if (prefetches.length === 0) return 'no prefetches\n';
  const rows = table(
    ['ID', 'STATE', 'DONE', 'FAILED', 'OFFLINE', 'BYTES', 'WAN', 'PEERS', 'IMAGES'],
    prefetches.map((each) => [
      each.id,
      stateOf(each),
      `${each.succeeded + each.skipped}/${each.desired}`,
      String(each.failed),
      String(each.offline),
      `${formatBytes(each.bytes.done)}/${formatBytes(each.bytes.total)}`,
      formatBytes(each.bytes.wan),
      formatBytes(each.bytes.peer),
      each.images.length > 2 ? `${each.images[0]} and ${each.images.length - 1} more` : each.images.join(' '),
    ]),
  );
  return rows + prefetches.flatMap(remarks).join('');
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

function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`;
}
