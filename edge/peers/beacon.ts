import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv4 } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { TlsIdentity, TlsMaterial } from '../../shared/trust/types.ts';
import type { HostPort } from '../settings.ts';
import { type BeaconCounts, BeaconGuard } from './beacon-guard.ts';
import { encodeBeacon } from './beacon-wire.ts';
import type { Members } from './members.ts';

/** How often a node says that it is there. 100 members are ten datagrams a second. */
const INTERVAL_MS = 10_000;
/** After the start, in case that the first ones get lost. */
const FIRST_MS = [0, 500, 2_000] as const;
/** A node whose LAN was not there yet tries again. */
const REOPEN_MS = 60_000;

interface BeaconsComponents {
  readonly identity: TlsIdentity;
  readonly members: Pick<Members, 'consider'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
}

interface BeaconsInit {
  readonly node: NodeName;
  readonly pool: PoolName;
  /** `host:port` of this node's peer server. */
  readonly address: string;
  /** Literal address of the interface that reaches the LAN. */
  readonly local: string;
  readonly group: HostPort;
  /** Asked once a start; grows. */
  readonly boot: () => number;
}

/**
 * Neighbours on one LAN find each other without hub and without being told of each other: each says now and then who it is
 * and where, signed. What a beacon says makes nobody a member; it names an address, and the handshake there proves the rest.
 */
export class Beacons implements Startable {
  readonly name = 'beacons';
  readonly #c: BeaconsComponents;
  readonly #init: BeaconsInit;
  readonly #guard: BeaconGuard;
  #socket: Socket | undefined;
  #cancel: () => void = () => undefined;
  #boot = 0;
  #seq = 0;
  #sent = 0;
  #stopped = true;
  #signer: { readonly material: TlsMaterial; readonly key: KeyObject; readonly cert: Buffer } | undefined;
  #complained = false;

  constructor(components: BeaconsComponents, init: BeaconsInit) {
    this.#c = components;
    this.#init = init;
    this.#guard = new BeaconGuard(components, init);
  }

  get counts(): BeaconCounts {
    return { sent: this.#sent, ...this.#guard.counts };
  }

  /** Never fails: a node without multicast knows its neighbours by roster and by hand. */
  async start(): Promise<void> {
    if (!isIPv4(this.#init.local)) {
      this.#c.log.info({ address: this.#init.local }, 'beacons go over IPv4 alone; there are none');
      return;
    }
    this.#stopped = false;
    this.#boot = this.#init.boot();
    await this.#open();
  }

  stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    this.#close();
    return Promise.resolve();
  }

  async #open(): Promise<void> {
    const { group, local } = this.#init;
    const socket = createSocket({ type: 'udp4', reuseAddr: true });
    this.#socket = socket;
    try {
      // On the group's address: what is sent to this node alone is no beacon.
      socket.bind({ port: group.port, address: group.host });
      await once(socket, 'listening');
      if (this.#socket !== socket) return;
      socket.setMulticastTTL(1);
      socket.setMulticastInterface(local);
      socket.addMembership(group.host, local);
    } catch (error) {
      this.#fail(socket, error);
      return;
    }
    socket.on('error', (error) => this.#fail(socket, error));
    socket.on('message', (bytes) => this.#onMessage(bytes));
    this.#send(0);
  }

  #send(round: number): void {
    if (this.#stopped) return;
    const { group } = this.#init;
    const socket = this.#socket;
    const beacon = this.#beacon();
    if (beacon !== undefined && socket !== undefined) {
      socket.send(beacon, group.port, group.host, (error) => {
        if (error === null) this.#sent++;
        else this.#fail(socket, error);
      });
    }
    const waitMs = FIRST_MS[round + 1] ?? INTERVAL_MS;
    this.#cancel = this.#c.clock.after(waitMs * (0.75 + this.#c.random() / 2), () => this.#send(round + 1));
  }

  #beacon(): Buffer | undefined {
    try {
      const material = this.#c.identity.current();
      if (this.#signer?.material !== material) {
        const key = createPrivateKey(material.key);
        this.#signer = { material, key, cert: new X509Certificate(material.cert).raw };
      }
      this.#seq++;
      const { address } = this.#init;
      return encodeBeacon({ address, boot: this.#boot, seq: this.#seq }, this.#signer.cert, this.#signer.key);
    } catch (error) {
      this.#complain(error, 'this node sends no beacons');
      return undefined;
    }
  }

  #onMessage(bytes: Buffer): void {
    const found = this.#guard.take(bytes);
    // Multicast comes back to who sends it.
    if (found !== undefined && found.node !== this.#init.node) this.#c.members.consider(found.address);
  }

  /** There is no such interface, or no LAN: it may come. */
  #fail(socket: Socket, error: unknown): void {
    if (this.#socket !== socket) return;
    this.#close();
    if (this.#stopped) return;
    this.#complain(error, 'no beacons on this LAN; neighbours are known by the roster and by --peers');
    this.#cancel();
    this.#cancel = this.#c.clock.after(REOPEN_MS, () => void this.#open());
  }

  #close(): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    this.#socket = undefined;
    socket.removeAllListeners();
    // A late error has nobody to tell; without a listener it would end the process.
    socket.on('error', () => undefined);
    socket.close();
  }

  #complain(error: unknown, message: string): void {
    if (this.#complained) return;
    this.#complained = true;
    this.#c.log.warn({ reason: describeError(error), group: this.#init.group }, message);
  }
}
