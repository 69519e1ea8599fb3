/**
 * The lab: real containerds in network namespaces behind a shaped uplink.
 *
 * `npm run lab -- [scenario…] [--json] [--hosts 8] [--runs 1] [--strict] [--list]`, as root on Linux. Prints one JSON line
 * a scenario to standard output, progress to standard error, and ends with 1 when a check failed.
 */
import { loadavg } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Skip } from './checks.ts';
import { findReleases } from './containerd.ts';
import { Lab } from './lab.ts';
import { type Outcome, printOutcome } from './report.ts';
import { SCENARIOS, type Scenario } from './scenarios/index.ts';
import { labBase, makeWorkspace, removeLeftovers, removeTree } from './workspace.ts';

const USAGE = `usage: npm run lab -- [scenario…] [--hosts 8] [--runs 1] [--strict] [--json] [--list]

  --hosts N       hosts of the pool in the scenarios that pull at once (8)
  --runs N        how often the cold pull is repeated (1)
  --strict        the project's own targets instead of generous limits
  --json          JSON lines only: no progress on standard error
  --list          names of the scenarios
  --agent FILE    the agent's bundle (dist/tidepool-agent.mjs)
  --containerd N  only the containerd of that major version (every one there is)
  --long          outages of full length: a hub lost for 10 minutes, not for one
  --plain         no TLS between agents, to compare with
  --congestion C  TCP congestion control in the lab, where the kernel lets a namespace choose (the machine's own)
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hosts: { type: 'string', default: '8' },
    runs: { type: 'string', default: '1' },
    strict: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    agent: { type: 'string', default: 'dist/tidepool-agent.mjs' },
    containerd: { type: 'string' },
    congestion: { type: 'string' },
    plain: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
  },
});

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

function count(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) refuse(`--${name} takes a whole number from ${least} on`);
  return value;
}

function chosen(): readonly Scenario[] {
  const unknown = positionals.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown.length > 0) {
    refuse(`no scenario ${unknown.join(', ')}; there are ${SCENARIOS.map((s) => s.name).join(', ')}`);
  }
  return positionals.length === 0 ? SCENARIOS : SCENARIOS.filter(({ name }) => positionals.includes(name));
}

async function runScenario(lab: Lab, scenario: Scenario): Promise<Outcome> {
  const started = performance.now();
  const [load = 0] = loadavg();
  const took = (): number => (performance.now() - started) / 1000;
  try {
    const findings = await scenario.run(lab);
    const status = findings.checks.every((check) => check.ok) ? 'passed' : 'failed';
    return {
      scenario: scenario.name,
      status,
      took: took(),
      load,
      figures: findings.figures,
      checks: findings.checks,
    };
  } catch (error) {
    if (error instanceof Skip) {
      return { scenario: scenario.name, status: 'skipped', took: took(), load, reason: error.message };
    }
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { scenario: scenario.name, status: 'failed', took: took(), load, reason };
  } finally {
    await lab.closePools();
    await lab.origin.stopProxies();
  }
}

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const scenarios = chosen();
  if (values.list) {
    for (const { name, summary } of scenarios) console.log(`${name.padEnd(16)} ${summary}`);
    return 0;
  }
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    refuse('the lab makes network namespaces and runs containers: it needs root on Linux');
  }
  const options = {
    hosts: count('hosts', values.hosts, 2),
    runs: count('runs', values.runs, 1),
    strict: values.strict,
    bundle: resolve(values.agent),
    plain: values.plain,
    long: values.long,
    ...(values.congestion === undefined ? {} : { congestion: values.congestion }),
  };
  const progress = (text: string): void => {
    if (!values.json) console.error(text);
  };
  const base = labBase();
  for (const leftover of await removeLeftovers(base)) progress(`removed what a dead run left: ${leftover}`);
  const releases = (await findReleases()).filter(
    ({ major }) => values.containerd === undefined || String(major) === values.containerd,
  );
  const workspace = makeWorkspace(base);
  const lab = new Lab({ releases, progress }, { workspace, options });
  progress(`hosts in ${workspace}; containerd ${releases.map((r) => r.version).join(' and ') || 'missing'}`);
  const clean = async (): Promise<void> => {
    await lab.stop();
    await removeTree(workspace);
  };
  let stopping = false;
  const interrupted = (): void => {
    stopping = true;
    progress('interrupted: cleaning up');
    clean().then(
      () => process.exit(130),
      (error: unknown) => {
        console.error(error);
        process.exit(130);
      },
    );
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  const outcomes: Outcome[] = [];
  try {
    await lab.start();
    for (const scenario of scenarios) {
      progress(`── ${scenario.name}: ${scenario.summary}`);
      const outcome = await runScenario(lab, scenario);
      // What a scenario says while its network is taken away is no finding.
      if (stopping) return 130;
      outcomes.push(outcome);
      printOutcome(outcome, progress);
    }
  } finally {
    if (!stopping) await clean();
  }
  const tally = (status: Outcome['status']): number => outcomes.filter((o) => o.status === status).length;
  console.log(
    JSON.stringify({ passed: tally('passed'), failed: tally('failed'), skipped: tally('skipped') }),
  );
  return tally('failed') > 0 ? 1 : 0;
}

process.exitCode = await main();
