/**
 * The lab's network: a "cloud" namespace, and for each pool a router namespace with a bridge that its hosts hang on.
 *
 * ```
 *  cloud 10.75.0.1 ── up<p> ═ uplink, tbf on both ends ═ wan0 router br0 10.77.<p>.1 ── h<i> ═ 1 Gbit/s ═ eth0 host 10.77.<p>.<10+i>
 * ```
 * All links are veth pairs made inside the namespaces, so nothing is left in the machine's own namespace and deleting
 * the namespaces deletes everything.
 */
import { existsSync } from 'node:fs';
import { inNetns, mustRun, run } from './process.ts';

export const CLOUD_ADDRESS = '10.75.0.1';

/** Bits per second in tc's words, and the uplink's queue: 32 KiB bucket, at most 300 ms of waiting packets. */
const UPLINK_BURST = '32kb';
const UPLINK_LATENCY = '300ms';
/** A gigabit needs a bucket of some 2 ms for timer slack: 256 KiB gives 119.5 MB/s of payload, as a real port does. */
const LAN_RATE = '1gbit';
const LAN_BURST = '256kb';
const LAN_LATENCY = '50ms';

/** Without this every link that comes up talks IPv6 to itself, and the counters are never still. */
const QUIET_IPV6 =
  'for all in /proc/sys/net/ipv6/conf/*/disable_ipv6; do if [ -e "$all" ]; then echo 1 > "$all"; fi; done';

export interface LinkCounters {
  /** Bytes that came down the uplink into the pool, headers included. */
  readonly down: number;
  readonly up: number;
}

export type UplinkState = 'up' | 'down' | 'black-hole';

export interface PoolNetwork {
  readonly index: number;
  readonly router: string;
  readonly hosts: readonly { readonly netns: string; readonly address: string }[];
}

/** A host, as the network knows it. */
export interface Placed {
  readonly netns: string;
  readonly address: string;
}

export interface TopologyInit {
  /** Unique in this run and recognisable after a crash: `tp<pid>`. */
  readonly prefix: string;
  /** TCP congestion control; the machine's own where not given, as many kernels let namespaces choose few. */
  readonly congestion?: string;
}

export class Topology {
  readonly cloud: string;
  readonly #prefix: string;
  readonly #congestion: string | undefined;
  readonly #namespaces = new Set<string>();
  #pools = 0;

  constructor(init: TopologyInit) {
    this.#prefix = init.prefix;
    this.#congestion = init.congestion;
    this.cloud = `${init.prefix}c`;
  }

  async start(): Promise<void> {
    await this.#addNamespaces([this.cloud]);
    await this.#ip(this.cloud, [`addr add ${CLOUD_ADDRESS}/32 dev lo`]);
  }

  /** A pool of `hosts` hosts behind an uplink of `uplinkKbit` in both directions. */
  async addPool(init: { hosts: number; uplinkKbit: number }): Promise<PoolNetwork> {
    this.#pools += 1;
    const index = this.#pools;
    const router = `${this.#prefix}r${index}`;
    const hosts = Array.from({ length: init.hosts }, (_, i) => ({
      netns: `${this.#prefix}p${index}h${i + 1}`,
      address: `10.77.${index}.${11 + i}`,
    }));
    await this.#addNamespaces([router, ...hosts.map((host) => host.netns)]);
    await mustRun(['ip', '-batch', '-'], {
      input: [
        `link add up${index} netns ${this.cloud} type veth peer name wan0 netns ${router}`,
        ...hosts.map(
          (h, i) => `link add eth0 netns ${h.netns} type veth peer name h${i + 1} netns ${router}`,
        ),
      ].join('\n'),
    });
    // Segments as the wire has them: without this the counter sees 64 KiB packets with one header.
    await this.#ip(this.cloud, [
      `link set up${index} gso_max_segs 1 up`,
      `addr add 10.76.${index}.1/30 dev up${index}`,
      `route add 10.77.${index}.0/24 via 10.76.${index}.2`,
    ]);
    await this.#ip(router, [
      'link set wan0 gso_max_segs 1 up',
      `addr add 10.76.${index}.2/30 dev wan0`,
      `route add default via 10.76.${index}.1`,
      'link add br0 type bridge',
      'link set br0 up',
      `addr add 10.77.${index}.1/24 dev br0`,
      ...hosts.flatMap((_, i) => [`link set h${i + 1} master br0 up`]),
    ]);
    await mustRun(inNetns(router, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']));
    for (const host of hosts) {
      await this.#ip(host.netns, [
        'link set eth0 up',
        `addr add ${host.address}/24 dev eth0`,
        `route add default via 10.77.${index}.1`,
      ]);
      await this.#tc(host.netns, [lanShape('eth0')]);
    }
    await this.#tc(
      router,
      hosts.map((_, i) => lanShape(`h${i + 1}`)),
    );
    const pool = { index, router, hosts };
    await this.shapeUplink(pool, init.uplinkKbit);
    return pool;
  }

  /** Shapes both ends of a pool's uplink. */
  async shapeUplink(pool: PoolNetwork, kbit: number): Promise<void> {
    const shape = (dev: string): string =>
      `qdisc replace dev ${dev} root tbf rate ${kbit}kbit burst ${UPLINK_BURST} latency ${UPLINK_LATENCY}`;
    await this.#tc(pool.router, [shape('wan0')]);
    await this.#tc(this.cloud, [shape(`up${pool.index}`)]);
  }

  /**
   * Cuts or restores a pool's uplink. `down`: the cable is pulled and the router says so; `black-hole`: packets vanish
   * and nobody is told.
   */
  async setUplink(pool: PoolNetwork, state: UplinkState): Promise<void> {
    const route = state === 'black-hole' ? 'blackhole default' : `default via 10.76.${pool.index}.1`;
    await this.#ip(pool.router, [`route replace ${route}`]);
    await this.#ip(this.cloud, [
      `link set up${pool.index} ${state === 'up' ? 'up' : 'down'}`,
      ...(state === 'up' ? [`route replace 10.77.${pool.index}.0/24 via 10.76.${pool.index}.2`] : []),
    ]);
  }

  /** Gives a host another address, as a router does that has forgotten its leases. */
  async readdress(pool: PoolNetwork, netns: string, from: string, to: string): Promise<void> {
    await this.#ip(netns, [
      `addr del ${from}/24 dev eth0`,
      `addr add ${to}/24 dev eth0`,
      `route replace default via 10.77.${pool.index}.1`,
    ]);
  }

  /** Two sides of a pool that cannot reach each other, or can again; the uplink stays. */
  async part(sides: readonly [readonly Placed[], readonly Placed[]], apart: boolean): Promise<void> {
    const [left, right] = sides;
    const verb = apart ? 'add' : 'del';
    for (const [here, there] of [
      [left, right],
      [right, left],
    ] as const) {
      for (const { netns } of here) {
        await this.#ip(
          netns,
          there.map(({ address }) => `route ${verb} blackhole ${address}/32`),
        );
      }
    }
  }

  async counters(pool: PoolNetwork): Promise<LinkCounters> {
    const { stdout } = await mustRun(['ip', '-n', pool.router, '-s', '-j', 'link', 'show', 'dev', 'wan0']);
    return parseCounters(stdout);
  }

  async removePool(pool: PoolNetwork): Promise<void> {
    await this.#removeNamespaces([pool.router, ...pool.hosts.map((host) => host.netns)]);
  }

  /** Takes away every namespace this run made. */
  async stop(): Promise<void> {
    await this.#removeNamespaces([...this.#namespaces]);
  }

  async #addNamespaces(names: readonly string[]): Promise<void> {
    for (const name of names) this.#namespaces.add(name);
    await mustRun(['ip', '-batch', '-'], { input: names.map((name) => `netns add ${name}`).join('\n') });
    const setup = ['ip link set lo up', QUIET_IPV6];
    if (this.#congestion !== undefined) {
      setup.push(`echo ${this.#congestion} > /proc/sys/net/ipv4/tcp_congestion_control`);
    }
    for (const name of names) await mustRun(inNetns(name, ['sh', '-ec', setup.join('; ')]));
  }

  async #removeNamespaces(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await removeNamespace(name);
      this.#namespaces.delete(name);
    }
  }

  async #ip(netns: string, commands: readonly string[]): Promise<void> {
    await mustRun(['ip', '-n', netns, '-batch', '-'], { input: commands.join('\n') });
  }

  async #tc(netns: string, commands: readonly string[]): Promise<void> {
    await mustRun(['tc', '-n', netns, '-batch', '-'], { input: commands.join('\n') });
  }
}

/** Ends what still runs in a namespace of the lab, then deletes it. */
export async function removeNamespace(name: string): Promise<void> {
  if (!existsSync(`/run/netns/${name}`)) return;
  const { stdout } = await run(['ip', 'netns', 'pids', name]);
  for (const pid of stdout.split('\n').map(Number)) {
    if (pid > 1) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended between the listing and the signal.
      }
    }
  }
  await mustRun(['ip', 'netns', 'del', name]);
}

function lanShape(dev: string): string {
  return `qdisc replace dev ${dev} root tbf rate ${LAN_RATE} burst ${LAN_BURST} latency ${LAN_LATENCY}`;
}

function parseCounters(json: string): LinkCounters {
  const links = JSON.parse(json) as { stats64?: { rx: { bytes: number }; tx: { bytes: number } } }[];
  const stats = links[0]?.stats64;
  if (stats === undefined) throw new Error(`no counters in ${json}`);
  return { down: stats.rx.bytes, up: stats.tx.bytes };
}
