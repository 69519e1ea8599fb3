import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { type Clock, delay, systemClock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { parseDuration } from '../../shared/units.ts';
import type { PrefetchDetailView } from '../../shared/wire/api.ts';
import { restoreEverywhere } from '../uninstall.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import { HubClient } from './hub-client.ts';
import { type CliIo, EXIT } from './io.ts';

const POLL_MS = 2_000;
/** One for all upgrades: the next one takes its place, and nodes that were offline still get the newest. */
const JOB = 'tidepool-agent-upgrade';
/** Nodes that are named; the rest is counted. */
const MAX_NAMED = 100;

interface RestoreFlags {
  readonly daemonset: string;
  readonly insteadOf: string;
  readonly timeout: string;
  readonly kubeconfig?: string;
}

/** What the chart's hook Jobs run. What they could not do is told, and stops neither an upgrade nor an uninstall. */
export function addHelmHooks(
  program: Command,
  version: string,
  io: CliIo,
  exit: (code: number) => void,
): void {
  const hooks = program.command('helm-hook', { hidden: true }).description("what the chart's hook Jobs run");
  hooks
    .command('restore')
    .description('put back what was in containerd on every node, by a DaemonSet')
    .requiredOption('--daemonset <file>', 'its manifest')
    .requiredOption('--instead-of <name>', 'DaemonSet of the agents, deleted first')
    .option('--timeout <duration>', 'how long to wait for nodes', '5m')
    .option('--kubeconfig <file>', "instead of the pod's own service account")
    .action(async (flags: RestoreFlags) => exit(await runRestore(flags, version, io)));
  withHub(hooks.command('prefetch'))
    .description("bring the new agent's image to all nodes while the old agents still run")
    .argument('<image>')
    .option('--timeout <duration>', 'how long to wait for nodes', '10m')
    .action(async (image: string, { timeout, ...flags }: HubFlags & { timeout: string }) => {
      const timeoutMs = parseDuration(timeout);
      const client = clientOf(flags, image, io);
      exit(
        client === undefined
          ? EXIT.ok
          : await runUpgradePrefetch({ client, clock: systemClock, io }, { image, timeoutMs }),
      );
    });
}

/**
 * Without a word about it the address is the one of the chart's own hub, plain as that is; no token goes there. Undefined,
 * and told, where the hub has not said yet by which authority it is known: that is no reason to stop an upgrade either.
 */
function clientOf(flags: HubFlags, image: string, io: CliIo): HubClient | undefined {
  const isPlain = flags.hub?.startsWith('http://') === true && flags.insecure !== true;
  if (isPlain) return new HubClient({ url: flags.hub ?? '', signal: io.signal });
  try {
    return hubClient(flags, io);
  } catch (error) {
    io.stdout.write(`${notAhead(image, error)}\n`);
    return undefined;
  }
}

function notAhead(image: string, error: unknown): string {
  return `${image} is not brought ahead of the upgrade, each node pulls it by itself: ${describeError(error)}`;
}

async function runRestore(flags: RestoreFlags, version: string, io: CliIo): Promise<number> {
  const say = (text: string): void => void io.stdout.write(`${text}\n`);
  const { insteadOf, kubeconfig } = flags;
  const daemonSet = await readManifest(flags.daemonset);
  const { complete, done, missed, unnamed } = await restoreEverywhere(
    { clock: systemClock, env: process.env, version, say },
    { daemonSet, insteadOf, kubeconfig, timeoutMs: parseDuration(flags.timeout), signal: io.signal },
  );
  if (complete) {
    say(`containerd is as it was before, on all ${done} nodes`);
    return EXIT.ok;
  }
  const count = missed.length + unnamed;
  say(
    `not reached within ${flags.timeout}: ${count === 0 ? 'nobody says which nodes there are' : `${count} nodes`}`,
  );
  for (const { node, why } of missed) say(`  ${node}: ${why}`);
  if (unnamed > 0) say(`  and ${unnamed} that have no pod yet`);
  say('The DaemonSet stays and restores them when they come back; delete it when none is missing any more.');
  return EXIT.ok;
}

/** @throws TidepoolError INVALID_CONFIG */
async function readManifest(file: string): Promise<unknown> {
  try {
    return parse(await readFile(file, 'utf8'));
  } catch (error) {
    const message = `the manifest ${file} cannot be read: ${describeError(error)}`;
    throw new TidepoolError('INVALID_CONFIG', message, { cause: error });
  }
}

/** Never rejects but by the signal: an upgrade goes on whatever the pools have. */
export async function runUpgradePrefetch(
  c: {
    readonly client: Pick<HubClient, 'createPrefetch' | 'prefetch'>;
    readonly clock: Clock;
    readonly io: CliIo;
  },
  init: { readonly image: string; readonly timeoutMs: number },
): Promise<number> {
  const { client, clock, io } = c;
  const say = (text: string): void => void io.stdout.write(`${text}\n`);
  const until = clock.mono() + init.timeoutMs;
  try {
    const { id } = await client.createPrefetch({ id: JOB, images: [{ image: init.image }] });
    for (;;) {
      const view = await client.prefetch(id);
      // Who is offline starts when it is back; the upgrade does not wait for it.
      if (view.active + view.waiting === 0 || clock.mono() >= until) {
        tell(view, init.image, say);
        return EXIT.ok;
      }
      await delay(clock, POLL_MS, io.signal);
    }
  } catch (error) {
    io.signal.throwIfAborted();
    say(notAhead(init.image, error));
    return EXIT.ok;
  }
}

function tell(view: PrefetchDetailView, image: string, say: (text: string) => void): void {
  say(`${image}: on ${view.succeeded} of ${view.desired} nodes before the upgrade`);
  const behind = view.nodes.filter(({ state }) => state !== 'succeeded' && state !== 'skipped');
  for (const { node, state, error } of behind.slice(0, MAX_NAMED)) {
    say(`  ${node}: ${state}${error === undefined ? '' : `, ${error.message}`}`);
  }
  if (behind.length > MAX_NAMED) say(`  and ${behind.length - MAX_NAMED} more`);
}
