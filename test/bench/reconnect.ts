/**
 * `npx tsx test/bench/reconnect.ts [--tls] [--agents=1000] [--json]`: a thousand agents lose the hub and its broker, which
 * comes back with an empty data directory, all but its authority. How evenly they come back, and when it knows all of them
 * again. Twice: after some seconds, and after so long that their back-off has reached its end. Two minutes; never fails
 * for a missed target.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../shared/clock.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { PoolView } from '../../shared/wire/api.ts';
import { Fleet, fleetNode, fleetPool } from '../support/fleet.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { type SecureHub, startSecureHub } from '../support/hub-trust.ts';
import { TestIdentity } from '../support/trust.ts';

const POOLS = 20;
const DOWN_S = [3, 40];
const TARGET_RATIO = 3;
const TARGET_S = 60;
const ENROL_AT_ONCE = 32;
const WAIT_MS = 90_000;

interface Row {
  readonly downSeconds: number;
  /** From the hub's start until the first and the last connection. */
  readonly firstSeconds: number;
  readonly lastSeconds: number;
  readonly mean: number;
  readonly max: number;
  readonly ratio: number;
  /** From the hub's start until it knows every node, its tuning and what it holds. */
  readonly knownSeconds: number;
  readonly perSecond: readonly number[];
}

const agents = Number(/--agents=(\d+)/.exec(process.argv.join(' '))?.[1] ?? 1_000);
const secure = process.argv.includes('--tls') ? await startSecureHub() : undefined;
const fixture: HubFixture = secure?.fixture ?? (await startTestHub());
const broker = secure === undefined ? fixture.mqtt : fixture.mqtt.replace('mqtt:', 'mqtts:');
let fleet: Fleet | undefined;
try {
  const identities = secure === undefined ? undefined : await enrolAll(secure);
  fleet = new Fleet({
    agents,
    pools: POOLS,
    mqtt: broker,
    ...(identities === undefined ? {} : { identities }),
  });
  const rows = await measure(fleet);
  if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
  else for (const row of rows) print(row);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await fleet?.stop();
  await (secure ?? fixture).close();
}

async function measure(all: Fleet): Promise<Row[]> {
  await all.start();
  await untilKnown();
  const rows: Row[] = [];
  for (const downSeconds of DOWN_S) rows.push(await restart(all, downSeconds));
  return rows;
}

async function restart(all: Fleet, downSeconds: number): Promise<Row> {
  const { hub } = fixture;
  const port = Number(hub.mqtt.split(':').at(-1));
  await hub.stop();
  for (const entry of await readdir(fixture.data)) {
    // Whom it trusts, and who it is to those who trust it.
    if (entry !== 'trust' && entry !== 'admin-token' && entry !== 'api-tokens.json') {
      await rm(join(fixture.data, entry), { recursive: true });
    }
  }
  await new Promise((resolve) => setTimeout(resolve, downSeconds * 1_000));
  const startedAt = systemClock.now();
  await fixture.start(port);
  await eventually(
    () => all.online,
    (online) => online === agents,
    WAIT_MS,
  );
  await untilKnown();
  const knownSeconds = (systemClock.now() - startedAt) / 1_000;
  const times = all.connectedAt().sort((a, b) => a - b);
  const [first = startedAt] = times;
  const last = times.at(-1) ?? first;
  const perSecond: number[] = Array.from({ length: Math.floor((last - first) / 1_000) + 1 }, () => 0);
  for (const at of times) {
    const second = Math.floor((at - first) / 1_000);
    perSecond[second] = (perSecond[second] ?? 0) + 1;
  }
  const max = Math.max(...perSecond);
  const mean = times.length / perSecond.length;
  return {
    ...{ downSeconds, mean, max, ratio: max / mean, knownSeconds, perSecond },
    firstSeconds: (first - startedAt) / 1_000,
    lastSeconds: (last - startedAt) / 1_000,
  };
}

/** Every node online, by the tuning of now, and what it holds is known. */
async function untilKnown(): Promise<void> {
  const pools = async (): Promise<readonly PoolView[]> =>
    secure === undefined ? await fixture.get<PoolView[]>('/v1/pools') : await secure.admin.pools();
  await eventually(
    async () => (await pools()).reduce((sum, { tuned, online }) => sum + Math.min(tuned, online), 0),
    (known) => known === agents,
    WAIT_MS,
  );
}

async function enrolAll(hub: SecureHub): Promise<ReadonlyMap<string, TlsIdentity>> {
  const identities = new Map<string, TlsIdentity>();
  const tokens = await Promise.all(
    Array.from({ length: POOLS }, (_, pool) => hub.token(fleetPool(pool, POOLS), { uses: agents })),
  );
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < agents; index = next++) {
      const token = tokens[index % POOLS] ?? '';
      const { key, issued } = await hub.enrol(fleetNode(index), { token });
      identities.set(fleetNode(index), new TestIdentity({ key, cert: issued.certificate, ca: issued.roots }));
    }
  };
  await Promise.all(Array.from({ length: ENROL_AT_ONCE }, lane));
  return identities;
}

function print(row: Row): void {
  const { downSeconds, mean, max, ratio, firstSeconds, lastSeconds, knownSeconds, perSecond } = row;
  const verdict = (met: boolean): string => (met ? 'met' : 'MISSED');
  console.log(
    `${agents} agents${secure === undefined ? '' : ' over TLS'}, hub and broker away ${downSeconds} s:`,
  );
  console.log(
    `  back from ${firstSeconds.toFixed(1)} to ${lastSeconds.toFixed(1)} s after its start; mean ${mean.toFixed(1)} a second, most ${max}, ratio ${ratio.toFixed(2)} (target ${TARGET_RATIO}: ${verdict(ratio <= TARGET_RATIO)})`,
  );
  console.log(`  a second: ${perSecond.join(' ')}`);
  console.log(
    `  it knows all of them after ${knownSeconds.toFixed(1)} s (target ${TARGET_S}: ${verdict(knownSeconds <= TARGET_S)})`,
  );
}
