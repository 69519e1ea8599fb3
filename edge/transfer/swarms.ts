import { every } from '../../shared/clock.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Announced, JoinRequest } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import { Blame } from './blame.ts';
import { LINGER_MS, NOTED_BLOBS } from './constants.ts';
import { Download } from './download.ts';
import type { DownloadComponents } from './download-components.ts';
import { RangeBook } from './range-book.ts';
import { wanWindow } from './window.ts';

/** What tuning says of this node's part in swarms. */
export interface SwarmSettings {
  readonly gateways: ReadonlySet<string>;
  readonly weight: number;
}

interface Entry {
  readonly download: Download;
  /** As it was when the download last looked at it. */
  window: number | undefined;
  /** Monotonic ms since when nobody here has wanted it; undefined while somebody does. */
  idleSince: number | undefined;
}

export interface BlobName {
  readonly registry: string;
  readonly repository: string;
  readonly key: BlobKey;
  readonly size: number;
}

/** The blobs in progress on this node: one download each, and the window shared among them. */
export class Swarms implements Startable {
  readonly name = 'swarms';
  readonly #c: DownloadComponents;
  readonly #entries = new Map<BlobKey, Entry>();
  readonly #ranges: RangeBook;
  readonly #blame: Blame;
  readonly #noted = new Map<BlobKey, Map<NodeName, { request: JoinRequest; at: number }>>();
  #settings: SwarmSettings = { gateways: new Set(), weight: 1 };
  #stopTicking: () => void = () => undefined;
  #pumping = false;

  constructor(components: DownloadComponents) {
    this.#c = components;
    this.#ranges = new RangeBook(components);
    this.#blame = new Blame(components);
  }

  async start(): Promise<void> {
    this.#stopTicking = every(this.#c.clock, LINGER_MS / 6, () => this.#sweep());
  }

  async stop(): Promise<void> {
    this.#stopTicking();
    const downloads = [...this.#entries.values()].map((entry) => entry.download);
    this.#entries.clear();
    await Promise.all(downloads.map((download) => download.close()));
  }

  /** Takes effect with the next download. */
  configure(settings: SwarmSettings): void {
    this.#settings = settings;
  }

  get isGateway(): boolean {
    return this.#settings.gateways.has(this.#c.members.self);
  }

  get(key: BlobKey): Download | undefined {
    return this.#entries.get(key)?.download;
  }

  /** The download of a blob, begun when there is none or the last one failed. */
  open(name: BlobName): Download {
    const known = this.#entries.get(name.key);
    if (known !== undefined && this.#isOfUse(known.download)) {
      known.idleSince = this.#c.clock.mono();
      return known.download;
    }
    const entry: Entry = {
      download: new Download(this.#c, {
        ...name,
        ...this.#settings,
        ranges: this.#ranges,
        blame: this.#blame,
        window: () => {
          entry.window = this.#windowOf(name.key);
          return entry.window;
        },
        onProgress: () => this.#pumpOthers(),
      }),
      window: undefined,
      idleSince: this.#c.clock.mono(),
    };
    const { download } = entry;
    this.#entries.set(name.key, entry);
    for (const [node, { request, at }] of this.#noted.get(name.key) ?? [])
      download.presence.announcedEarlier(node, request, at);
    this.#noted.delete(name.key);
    return download;
  }

  /** Not one that has ended without its blob, nor one whose blob was given up since. */
  #isOfUse({ state, stored, key }: Download): boolean {
    return state !== 'failed' && state !== 'closed' && this.#c.store.get(key) === stored;
  }

  /** A download of which nothing is kept. It is its reader's, who closes it: neighbours do not find it. */
  pass({ registry, repository, key, size }: BlobName, passing: StoredBlob): Download {
    const download = new Download(this.#c, {
      registry,
      repository,
      key,
      size,
      ...this.#settings,
      passing,
      ranges: this.#ranges,
      blame: this.#blame,
      window: () => 0,
      onProgress: () => undefined,
    });
    for (const [node, { request, at }] of this.#noted.get(key) ?? [])
      download.presence.announcedEarlier(node, request, at);
    return download;
  }

  /** Downloads that are going on, for people. */
  active(): Download[] {
    return [...this.#entries.values()].map((entry) => entry.download).filter((download) => download.active);
  }

  /**
   * A neighbour announced itself on a blob that this node does not want. It may a moment later: then it must know of that
   * neighbour also when that one is too busy to answer.
   */
  note(node: NodeName, request: JoinRequest): void {
    if (!request.ranked) return;
    const noted = this.#noted.get(request.key) ?? new Map();
    this.#noted.delete(request.key);
    this.#noted.set(request.key, noted.set(node, { request, at: this.#c.clock.mono() }));
    for (const oldest of this.#noted.keys()) {
      if (this.#noted.size <= NOTED_BLOBS) break;
      this.#noted.delete(oldest);
    }
  }

  /** Who has announced itself on a blob that this node does not want. */
  noted(key: BlobKey): Announced[] {
    return [...(this.#noted.get(key) ?? [])].map(([node, { request }]) => ({ node, weight: request.weight }));
  }

  leave(node: NodeName, key: BlobKey): void {
    this.#noted.get(key)?.delete(node);
    this.get(key)?.view.unrank(node);
  }

  #windowOf(key: BlobKey): number {
    const wanted = this.active().filter((download) => download.wanted);
    let leading = 0;
    let place = 0;
    for (const download of wanted) {
      leading += download.stored.have.leading;
      // By key, so that members that pull the same image begin with the same blob.
      if (download.key < key) place++;
    }
    return wanWindow(leading, Math.max(1, wanted.length), place);
  }

  /** Others' windows may have opened; once a turn of the event loop is enough, and those that have not are left alone. */
  #pumpOthers(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      for (const [key, { download, window }] of this.#entries)
        if (download.active && this.#windowOf(key) !== window) download.pump();
    });
  }

  #sweep(): void {
    const now = this.#c.clock.mono();
    for (const [key, noted] of [...this.#noted]) {
      for (const [node, { at }] of [...noted]) if (now - at >= LINGER_MS) noted.delete(node);
      if (noted.size === 0) this.#noted.delete(key);
    }
    for (const [key, entry] of [...this.#entries]) {
      if (entry.download.wanted || entry.download.flights > 0) {
        entry.idleSince = undefined;
        continue;
      }
      entry.idleSince ??= now;
      if (now - entry.idleSince < LINGER_MS) continue;
      this.#entries.delete(key);
      void entry.download.close();
    }
  }
}
