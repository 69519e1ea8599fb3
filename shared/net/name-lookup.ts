import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import type { Clock } from '../clock.ts';

export type Resolve = (
  host: string,
  options: LookupOptions & { readonly all: true },
  done: (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void,
) => void;

type Done = Parameters<Resolve>[2];

/** A process reads its files with four threads, and a look-up takes one of them for as long as name servers are silent. */
const AT_ONCE = 2;
/** Longer than name servers take that answer at all. */
const PATIENCE_MS = 3_000;
const MAX_WAITING = 256;

interface Waiting {
  readonly start: () => void;
  readonly cancel: () => void;
}

/**
 * The system's look-up of names, with bounds: a network whose name servers are gone must not keep the threads that this
 * process reads its disk with. Callers of one name share one look-up; who would have to wait for others that hang is
 * told at once that nobody answers.
 */
export class NameLookup {
  readonly #clock: Pick<Clock, 'after'>;
  readonly #resolve: Resolve;
  /** By name and family: who waits for the answer. */
  readonly #flights = new Map<string, Done[]>();
  /** Of flights that have hung for longer than names take. */
  readonly #stuck = new Set<string>();
  #waiting: Waiting[] = [];

  constructor(
    components: { readonly clock: Pick<Clock, 'after'> },
    init: { readonly resolve?: Resolve } = {},
  ) {
    this.#clock = components.clock;
    this.#resolve = init.resolve ?? systemLookup;
  }

  /** Look-ups under way. */
  get active(): number {
    return this.#flights.size;
  }

  /** All addresses of a name. */
  readonly resolve: Resolve = (host, options, done) => {
    const key = `${host} ${options.family ?? 0} ${options.hints ?? 0}`;
    const flight = this.#flights.get(key);
    if (this.#stuck.has(key) || this.#stuck.size >= AT_ONCE || this.#waiting.length >= MAX_WAITING) {
      done(unanswered(host), []);
    } else if (flight !== undefined) {
      flight.push(this.#impatient(host, done));
    } else if (this.#flights.size < AT_ONCE) {
      this.#launch(key, host, options, this.#impatient(host, done));
    } else {
      this.#queue(host, options, done);
    }
  };

  /** The same for `net.connect` and `tls.connect`. */
  readonly lookup: LookupFunction = (host, options, done) => {
    this.resolve(host, { ...options, all: true }, (error, found) => {
      const [first] = found;
      if (error !== null) done(error, '', 0);
      else if (first === undefined) done(unanswered(host), '', 0);
      else if (options.all === true) done(null, [...found]);
      else done(null, first.address, first.family);
    });
  };

  #launch(key: string, host: string, options: LookupOptions & { readonly all: true }, done: Done): void {
    this.#flights.set(key, [done]);
    const cancel = this.#clock.after(PATIENCE_MS, () => {
      this.#stuck.add(key);
      if (this.#stuck.size >= AT_ONCE) for (const each of this.#waiting.splice(0)) each.cancel();
    });
    this.#resolve(host, options, (error, found) => {
      cancel();
      const callers = this.#flights.get(key) ?? [];
      this.#flights.delete(key);
      this.#stuck.delete(key);
      // The system's gives nothing at all beside an error.
      for (const each of callers) each(error, error === null ? found : []);
      this.#waiting.shift()?.start();
    });
  }

  #queue(host: string, options: LookupOptions & { readonly all: true }, done: Done): void {
    this.#waiting.push({
      start: () => this.resolve(host, options, done),
      cancel: () => done(unanswered(host), []),
    });
  }

  /** Told once: by the answer, or when it does not come. The look-up itself cannot be called off. */
  #impatient(host: string, done: Done): Done {
    let told = false;
    const cancel = this.#clock.after(PATIENCE_MS, () => {
      told = true;
      done(unanswered(host), []);
    });
    return (error, found) => {
      if (told) return;
      cancel();
      done(error, found);
    };
  }
}

function unanswered(host: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`no name server answers for ${host}`), {
    code: 'EAI_AGAIN',
    hostname: host,
  });
}
