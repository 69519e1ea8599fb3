import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Bound, measureBound } from './baseline.ts';
import { Skip } from './checks.ts';
import type { ContainerdRelease, Upstream } from './containerd.ts';
import { Gatekeeper } from './gatekeeper.ts';
import { buildImage, type ImageRecipe, RECIPES, type SampleImage } from './image.ts';
import { Origin, REGISTRY_NAME, repositoryOf } from './origin.ts';
import { PoolOfHosts } from './pool.ts';
import { Topology } from './topology.ts';

export interface LabOptions {
  readonly hosts: number;
  readonly runs: number;
  readonly strict: boolean;
  readonly bundle: string;
  readonly congestion?: string;
  /** Plain connections between agents, to compare with. */
  readonly plain: boolean;
  /** Outages last as long as they may, not as long as a run has time for. */
  readonly long: boolean;
}

export interface PoolOptions {
  readonly hosts: number;
  readonly uplinkKbit: number;
  /** By default the newest. */
  readonly release?: ContainerdRelease;
  readonly upstream?: Upstream;
  readonly originOf?: (index: number) => string;
  readonly extraFlags?: readonly string[];
  readonly cri?: boolean;
  /** A broker of the hub, as its agents find it. */
  readonly hub?: string;
  /** Plain connections: for scenarios in which something that is no agent plays a member. */
  readonly plain?: boolean;
  /** Where agents get their certificates; by default the lab's own hub. */
  readonly door?: Door;
}

/** A hub that lets the nodes of a pool in: flags of the agents that it is for. */
export interface Door {
  flags(pool: string): Promise<readonly string[]>;
}

/** What every scenario works with: the network, the origin, images, and pools made for it. */
export class Lab {
  readonly options: LabOptions;
  readonly topology: Topology;
  readonly origin: Origin;
  readonly gatekeeper: Gatekeeper;
  readonly releases: readonly ContainerdRelease[];
  readonly #workspace: string;
  readonly #progress: (text: string) => void;
  readonly #images = new Map<string, SampleImage>();
  readonly #bounds = new Map<string, Bound>();
  readonly #pools = new Set<PoolOfHosts>();

  constructor(
    components: { releases: readonly ContainerdRelease[]; progress: (text: string) => void },
    init: { workspace: string; options: LabOptions },
  ) {
    this.options = init.options;
    this.releases = components.releases;
    this.#progress = components.progress;
    this.#workspace = init.workspace;
    const { congestion } = init.options;
    this.topology = new Topology({
      prefix: `tp${process.pid}`,
      ...(congestion === undefined ? {} : { congestion }),
    });
    const directory = join(init.workspace, 'cloud');
    mkdirSync(directory, { recursive: true });
    this.origin = new Origin({ topology: this.topology }, { directory });
    this.gatekeeper = new Gatekeeper(
      { topology: this.topology },
      { bundle: join(dirname(init.options.bundle), 'tidepool-hub.mjs'), directory },
    );
  }

  async start(): Promise<void> {
    await this.topology.start();
    await this.origin.start();
  }

  async stop(): Promise<void> {
    await this.closePools();
    await this.gatekeeper.stop();
    await this.origin.stop();
    await this.topology.stop();
  }

  /** @throws Skip where there is no containerd at all */
  newest(): ContainerdRelease {
    const [release] = this.releases;
    if (release === undefined) throw new Skip('no containerd on PATH or in CONTAINERD_BIN');
    return release;
  }

  /** Says what goes on, to a person. */
  say(text: string): void {
    this.#progress(text);
  }

  /** An image that the origin has. */
  async image(name: keyof typeof RECIPES): Promise<SampleImage> {
    return await this.imageOf(RECIPES[name]);
  }

  /** The same, of a recipe of the scenario's own. */
  async imageOf(recipe: ImageRecipe): Promise<SampleImage> {
    const known = this.#images.get(recipe.name);
    if (known !== undefined) return known;
    const image = await buildImage(recipe, imageCache());
    await this.origin.push(image);
    this.#images.set(recipe.name, image);
    return image;
  }

  /** A pool with running hosts. Closed by {@link closePools}. @throws Skip where there is no agent to run */
  async pool(options: PoolOptions): Promise<PoolOfHosts> {
    const upstream = options.upstream ?? 'mirror';
    if (upstream === 'mirror' && !existsSync(this.options.bundle)) {
      throw new Skip(`${this.options.bundle} is not there: npm run build`);
    }
    const release = options.release ?? this.newest();
    const network = await this.topology.addPool(options);
    const plain = options.plain ?? this.options.plain;
    const door = options.door ?? this.gatekeeper;
    const trust = plain || upstream !== 'mirror' ? [] : await door.flags(`pool-${network.index}`);
    const pool = new PoolOfHosts(
      { topology: this.topology },
      {
        network,
        directory: join(this.#workspace, `p${network.index}`),
        release,
        upstream,
        bundle: this.options.bundle,
        trust,
        ...(options.originOf === undefined ? {} : { originOf: options.originOf }),
        ...(options.extraFlags === undefined ? {} : { extraFlags: options.extraFlags }),
        ...(options.cri === undefined ? {} : { cri: options.cri }),
        ...(options.hub === undefined ? {} : { hub: options.hub }),
      },
    );
    this.#pools.add(pool);
    await pool.start();
    return pool;
  }

  async closePools(): Promise<void> {
    for (const pool of [...this.#pools]) {
      await pool.stop();
      this.#pools.delete(pool);
    }
  }

  /** The plain stream over this pool's uplink; measured once a run for each rate and image unless `fresh`. */
  async bound(pool: PoolOfHosts, uplinkKbit: number, image: SampleImage, fresh = false): Promise<Bound> {
    const key = `${uplinkKbit}/${image.name}`;
    const known = this.#bounds.get(key);
    if (known !== undefined && !fresh) return known;
    const bound = await measureBound(pool, image);
    this.#bounds.set(key, bound);
    return bound;
  }
}

export function tagOf(image: SampleImage): string {
  return `${REGISTRY_NAME}/${repositoryOf(image)}:v1`;
}

export function digestReferenceOf(image: SampleImage): string {
  return `${REGISTRY_NAME}/${repositoryOf(image)}@${image.digest}`;
}

/** Images are the same on every run, so they are kept between runs. */
function imageCache(): string {
  const base = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const directory = join(base, 'tidepool', 'lab-images');
  mkdirSync(directory, { recursive: true });
  return directory;
}
