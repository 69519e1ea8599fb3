import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import { quote } from '../../../shared/ids.ts';
import { isRegistryHost } from '../../../shared/image-ref.ts';
import { type FileState, readState, removeFile, sha256, writeAtomically } from './atomic-file.ts';
import { DEFAULT_DIRECTORY, HOSTS, HostsTexts, isDirectory } from './hosts-texts.ts';
import { directoryName, namesHost, registryOfDirectory } from './hosts-toml.ts';
import { Ledger, type LedgerEntry } from './ledger.ts';
import { type FoundOrigin, findOrigin } from './origins.ts';

/** Where a file goes that somebody changed after it was written here. */
const CHANGED = 'hosts.toml.before-restore';

export interface RegistryTarget {
  /** Host as runtimes name it; undefined is every registry without a directory of its own. */
  readonly registry: string | undefined;
  /** The registry's own URL, where containerd cannot know it from the name. */
  readonly server?: string;
  /** The pool's tuning does not concern it. */
  readonly pinned?: boolean;
}

export interface ConfigureOptions {
  /** Base URL of the mirror. */
  readonly mirror: string;
  readonly fallback: boolean;
}

/** A registry that stood here: where the agent finds it, or why it leaves that to containerd. */
export interface OriginChange {
  readonly registry: string;
  readonly origin?: FoundOrigin;
  readonly note?: string;
}

export interface FileChange {
  readonly path: string;
  readonly change: 'written' | 'unchanged' | 'kept' | 'restored' | 'removed';
  /** For a person, where there is something to know. */
  readonly note?: string;
}

interface OverridePlan {
  readonly change: FileChange;
  readonly write?: {
    readonly directory: string;
    readonly path: string;
    readonly bytes: Buffer;
    readonly current: FileState;
  };
}

/** The hosts.toml files under one certs.d. containerd reads them at every pull, so nothing has to be restarted. */
export class HostsFiles {
  readonly #root: string;
  readonly #certsDir: string;
  readonly #hostRoot: string;
  readonly #texts: HostsTexts;

  /** @param hostRoot where the host's files are mounted; what is written names paths as the host has them */
  constructor(certsDir: string, hostRoot = '/') {
    this.#certsDir = certsDir;
    this.#hostRoot = hostRoot;
    this.#root = hostRoot === '/' ? certsDir : join(hostRoot, certsDir);
    this.#texts = new HostsTexts(this.#root, certsDir);
  }

  /** Registries that have a directory here, ours included. */
  registries(): readonly string[] {
    return this.#guard(() => {
      if (!existsSync(this.#root)) return [];
      return readdirSync(this.#root)
        .filter((name) => name !== DEFAULT_DIRECTORY && !name.startsWith('.') && this.#isDirectory(name))
        .map(registryOfDirectory)
        .filter(isRegistryHost)
        .sort();
    });
  }

  /** hosts.toml that containerd reads for a registry now; undefined where there is none. */
  read(registry: string): { readonly path: string; readonly text: string } | undefined {
    return this.#guard(() => {
      const named = [directoryName(registry), registry].find((name) => this.#isDirectory(name));
      const path = join(this.#root, named ?? DEFAULT_DIRECTORY, HOSTS);
      const state = readState(path);
      return state === undefined ? undefined : { path, text: state.bytes.toString('utf8') };
    });
  }

  /**
   * Writes where the registries that stood here before are, for the agent. What it learns from is what was there before
   * this command, so that it is the same however often it is asked.
   */
  recordOrigins(mirror: string): { readonly path: string; readonly found: readonly OriginChange[] } {
    return this.#guard(() => {
      const ledger = new Ledger(this.#root);
      const found = this.registries().flatMap((registry) => this.#originOf(ledger, registry, mirror));
      const registries = Object.fromEntries(
        found.flatMap(({ registry, origin }) => (origin === undefined ? [] : [[registry, origin] as const])),
      );
      return { path: ledger.writeOrigins({ version: 1, registries }), found };
    });
  }

  #originOf(ledger: Ledger, registry: string, mirror: string): OriginChange[] {
    const directory = this.#directoryOf(registry);
    const known = ledger.get(directory);
    if (known?.madeDirectory === true) return [];
    const before =
      known === undefined
        ? readState(join(this.#root, directory, HOSTS))?.bytes
        : known.before === undefined
          ? undefined
          : ledger.backup(known.before);
    const { origin, note } = findOrigin({
      registry,
      text: before?.toString('utf8'),
      authorities: this.#texts.certificates(directory).authorities,
      directory: join(this.#certsDir, directory),
      hostRoot: this.#hostRoot,
      mirror,
    });
    return origin === undefined && note === undefined
      ? []
      : [{ registry, ...(origin === undefined ? {} : { origin }), ...(note === undefined ? {} : { note }) }];
  }

  /**
   * Puts the mirror before what is there. Asked again it changes nothing; a file changed by hand since is left alone
   * where it still names the mirror, and is a new "before" where it does not.
   * @throws TidepoolError CONFLICT, INVALID_CONFIG (the directory or its ledger cannot be used)
   */
  configure(targets: readonly RegistryTarget[], options: ConfigureOptions): FileChange[] {
    return this.#guard(() => {
      const madeRoot = !existsSync(this.#root);
      mkdirSync(this.#root, { recursive: true, mode: 0o755 });
      const ledger = new Ledger(this.#root);
      if (madeRoot) ledger.rootMade();
      return targets.map((target) => this.#configureOne(ledger, target, options));
    });
  }

  /**
   * Lets the pool's tuning decide over what each file was configured with; undefined gives that back. Writes what is
   * ours and differs, makes nothing new, and touches the disk only where something changes. Undefined where `configure`
   * has written nothing.
   * @throws TidepoolError INVALID_CONFIG (the directory or its ledger cannot be used)
   */
  override(fallback: boolean | undefined): readonly FileChange[] | undefined {
    return this.#guard(() => {
      const ledger = new Ledger(this.#root);
      if (!ledger.found) return undefined;
      if (fallback === undefined && ledger.override === undefined) return [];
      const plans = ledger.entries.map((entry) => this.#plan(ledger, entry, fallback));
      const writes = plans.flatMap(({ write }) => write ?? []);
      if (ledger.override !== fallback || writes.length > 0) {
        // As in `configure`, the ledger first. It is given up last, so that what fails half-way is done again.
        ledger.setOverride(
          fallback ?? ledger.override,
          new Map(writes.map(({ directory, bytes }) => [directory, sha256(bytes)])),
        );
        for (const { path, bytes, current } of writes) writeAtomically(path, bytes, current);
        if (fallback === undefined) ledger.setOverride(undefined, new Map());
      }
      return plans.map(({ change }) => change);
    });
  }

  #plan(ledger: Ledger, entry: LedgerEntry, fallback: boolean | undefined): OverridePlan {
    const { directory, configured } = entry;
    const path = join(this.#root, directory, HOSTS);
    const kept = (note?: string): OverridePlan => ({
      change: { path, change: 'kept', ...(note === undefined ? {} : { note }) },
    });
    if (configured?.pinned === true) return kept();
    try {
      const current = readState(path);
      if (current === undefined) return kept('it is gone');
      if (!this.#texts.isOurs(ledger, entry, current.bytes)) return kept('it was changed by hand');
      if (configured === undefined) return kept('an older release wrote it; run containerd configure again');
      const bytes = this.#texts.textOf(ledger, entry, configured, fallback ?? configured.fallback);
      if (current.bytes.equals(bytes)) return { change: { path, change: 'unchanged' } };
      return { change: { path, change: 'written' }, write: { directory, path, bytes, current } };
    } catch (error) {
      // One that cannot be read keeps none of the others as they are.
      return kept(describeError(error));
    }
  }

  /** Puts back exactly what was. Without a ledger there is nothing to do. */
  restore(): FileChange[] {
    return this.#guard(() => {
      if (!existsSync(this.#root)) return [];
      const ledger = new Ledger(this.#root);
      ledger.removeOrigins();
      if (!ledger.found) return [];
      const changes = [...ledger.entries].map((entry) => this.#restoreOne(ledger, entry));
      ledger.delete();
      if (ledger.madeRoot && readdirSync(this.#root).length === 0) rmdirSync(this.#root);
      return changes;
    });
  }

  #configureOne(ledger: Ledger, target: RegistryTarget, options: ConfigureOptions): FileChange {
    const directory = this.#directoryOf(target.registry);
    const path = join(this.#root, directory, HOSTS);
    const current = readState(path);
    const known = ledger.get(directory);
    const digest = current === undefined ? undefined : sha256(current.bytes);
    const ours =
      known !== undefined && current !== undefined && this.#texts.isOurs(ledger, known, current.bytes);
    // Written by nobody but us since: what was before us is still what was before us.
    const untouched = known !== undefined && (ours || digest === known.before?.sha256);
    if (!ours && current !== undefined && namesHost(current.bytes.toString('utf8'), options.mirror)) {
      return {
        path,
        change: 'kept',
        note: 'it names the mirror already and was not written by this command',
      };
    }
    const before = untouched
      ? known.before
      : current === undefined
        ? undefined
        : ledger.keep(directory, current);
    const madeDirectory = known?.madeDirectory ?? !this.#isDirectory(directory);
    const configured = {
      mirror: options.mirror,
      ...(target.server === undefined ? {} : { server: target.server }),
      fallback: options.fallback,
      ...(target.pinned === true ? { pinned: true } : {}),
    };
    const place = { directory, madeDirectory, ...(before === undefined ? {} : { before }) };
    const fallback = target.pinned === true ? options.fallback : (ledger.override ?? options.fallback);
    const bytes = this.#texts.textOf(ledger, place, configured, fallback);
    const next = {
      directory,
      written: sha256(bytes),
      madeDirectory,
      configured,
      ...(before === undefined ? {} : { before }),
    };
    const notes =
      fallback === options.fallback
        ? []
        : [`runtime.originFallback: ${fallback} of the pool's tuning decides`];
    const answer = (change: FileChange['change']): FileChange => ({
      path,
      change,
      ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
    });
    if (ours && digest === next.written) {
      if (!isDeepStrictEqual(known, next)) ledger.put(next);
      return answer('unchanged');
    }
    // The ledger first: after a power cut it may name a file that was not written, never the other way round.
    ledger.put(next);
    mkdirSync(join(this.#root, directory), { recursive: true, mode: 0o755 });
    writeAtomically(path, bytes, before);
    if (before !== undefined) notes.unshift('what was there is kept behind the mirror, and backed up');
    return answer('written');
  }

  #restoreOne(ledger: Ledger, entry: LedgerEntry): FileChange {
    const directory = join(this.#root, entry.directory);
    const path = join(directory, HOSTS);
    const current = readState(path);
    const digest = current === undefined ? undefined : sha256(current.bytes);
    const changed =
      current !== undefined &&
      digest !== entry.before?.sha256 &&
      !this.#texts.isOurs(ledger, entry, current.bytes);
    const bytes = entry.before === undefined ? undefined : ledger.backup(entry.before);
    if (changed) writeAtomically(join(directory, CHANGED), current.bytes, current);
    if (bytes === undefined) removeFile(path);
    else if (digest !== entry.before?.sha256) {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      writeAtomically(path, bytes, entry.before);
    }
    ledger.remove(entry.directory);
    if (entry.madeDirectory && existsSync(directory) && readdirSync(directory).length === 0)
      rmdirSync(directory);
    return {
      path,
      change: bytes === undefined ? 'removed' : 'restored',
      ...(changed ? { note: `it had been changed by hand; that version is kept as ${CHANGED}` } : {}),
    };
  }

  /**
   * containerd 1.6 and 2.x take the first that exists of `host_port_`, `host:port` and `_default`. A directory that is
   * there stays in use, so that its certificates do; a new one gets the first name, which nothing can shadow.
   */
  #directoryOf(registry: string | undefined): string {
    if (registry === undefined) return DEFAULT_DIRECTORY;
    const name = directoryName(registry);
    return !this.#isDirectory(name) && this.#isDirectory(registry) ? registry : name;
  }

  #isDirectory(name: string): boolean {
    return isDirectory(join(this.#root, name));
  }

  #guard<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof TidepoolError) throw error;
      throw new TidepoolError('INVALID_CONFIG', `${quote(this.#root)}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }
}
