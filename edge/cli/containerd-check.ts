import { describeError, TidepoolError } from '../../shared/errors.ts';
import { opsAddress } from '../config/load-settings.ts';
import type { RuntimeStatus } from '../ops/api.ts';
import { CONTAINERD_CONFIG, judgeDaemonConfig } from '../runtime/containerd/daemon-config.ts';
import { hostEntries } from '../runtime/containerd/hosts-entries.ts';
import { HostsFiles } from '../runtime/containerd/hosts-files.ts';
import { SELF_TEST_REGISTRY } from '../runtime/cri/constants.ts';
import { type ConfigureFlags, daemonConfigText, mirrorOf, placeOf } from './containerd.ts';
import { table } from './format.ts';
import { type CliIo, EXIT, type ExitCode } from './io.ts';
import { OpsClient } from './ops-client.ts';

/** Whom containerd would ask for a registry's images, in order, if it reads its hosts directory. */
interface RegistryCheck {
  readonly registry: string;
  readonly usesMirror: boolean;
  readonly hosts: readonly string[];
  readonly note?: string;
}

interface CheckReport {
  readonly mirror: 'yes' | 'no' | 'unknown';
  /** Why, and what to do. */
  readonly because: string;
  readonly registries: readonly RegistryCheck[];
}

/** Any registry without a directory of its own; a name that no image has. */
const ANY = 'any.invalid';

/** Tells what containerd would do now. Proof is the agent's self-test; without an agent the files have to do. */
export async function checkCommand(io: CliIo, flags: ConfigureFlags): Promise<ExitCode> {
  const place = placeOf(io, flags);
  const mirror = (flags.mirror ?? (await mirrorOf(io, flags, place))).replace(/\/+$/, '');
  const files = new HostsFiles(place.certsDir, place.hostRoot);
  const named = (flags.registry ?? []).map((text) => text.split('=')[0] ?? text);
  const known = files.registries().filter((registry) => registry !== SELF_TEST_REGISTRY);
  const registries = [...(named.length > 0 ? named : [...known, ANY])].map((registry) =>
    checkRegistry(files, registry, mirror),
  );
  const verdict = judgeDaemonConfig({
    text: daemonConfigText(io, place),
    path: CONTAINERD_CONFIG,
    certsDir: place.certsDir,
  });
  const report = { ...judge(verdict, registries, await askAgent(io, flags)), registries };
  if (flags.json === true) io.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else io.stdout.write(textOf(report));
  return report.mirror === 'yes' ? EXIT.ok : report.mirror === 'no' ? EXIT.failed : EXIT.unknown;
}

function checkRegistry(files: HostsFiles, registry: string, mirror: string): RegistryCheck {
  const file = files.read(registry);
  if (file === undefined) return { registry, usesMirror: false, hosts: [], note: 'no hosts.toml' };
  try {
    const hosts = hostEntries(file.text, registry)
      .filter(({ pulls }) => pulls)
      .map(({ url }) => url.replace(/\/+$/, ''));
    const distinct = hosts.filter((url, index) => url !== hosts[index - 1]);
    return { registry, usesMirror: distinct[0] === mirror, hosts: distinct };
  } catch (error) {
    return { registry, usesMirror: false, hosts: [], note: `${file.path}: ${describeError(error)}` };
  }
}

function judge(
  verdict: ReturnType<typeof judgeDaemonConfig>,
  registries: readonly RegistryCheck[],
  agent: RuntimeStatus | undefined,
): Omit<CheckReport, 'registries'> {
  const astray = registries.filter(({ usesMirror }) => !usesMirror).map(({ registry }) => shown(registry));
  if (registries.length === astray.length) {
    return { mirror: 'no', because: 'no hosts.toml names the mirror first: run containerd configure' };
  }
  const but = astray.length === 0 ? '' : `; but not for ${astray.join(', ')}`;
  if (agent?.mirror === 'yes') return { mirror: 'yes', because: `the agent's self-test says so${but}` };
  if (agent?.mirror === 'no' || agent?.mirror === 'not-configured') {
    return { mirror: 'no', because: `the agent's self-test says so: ${agent.fix ?? agent.reason ?? ''}` };
  }
  const untested = `no agent has tested it${agent === undefined ? '' : ` (${agent.reason ?? ''})`}`;
  if (verdict.reads === 'no') return { mirror: 'no', because: verdict.fix ?? '' };
  if (verdict.reads === 'yes') {
    return { mirror: 'yes', because: `${CONTAINERD_CONFIG} says so; ${untested}${but}` };
  }
  return { mirror: 'unknown', because: `${untested}; to be sure: ${verdict.fix ?? ''}` };
}

/** Undefined where no agent answers. */
async function askAgent(io: CliIo, { ops, config }: ConfigureFlags): Promise<RuntimeStatus | undefined> {
  const client = new OpsClient(opsAddress(ops, config, io.machine), io.signal);
  try {
    return await client.selfTest();
  } catch (error) {
    if (error instanceof TidepoolError) return undefined;
    throw error;
  } finally {
    await client.close();
  }
}

function textOf({ mirror, because, registries }: CheckReport): string {
  const rows = registries.map(({ registry, hosts, note }) => [
    `  ${shown(registry)}`,
    note ?? hosts.join(', then '),
  ]);
  return `containerd uses the mirror: ${mirror}: ${because}\n${table(rows)}`;
}

function shown(registry: string): string {
  return registry === ANY ? 'any other' : registry;
}
