/** What a runtime asked the mirror for; `reference` is of manifests alone. */
export interface Asked {
  readonly registry: string;
  readonly repository: string;
  readonly reference?: string | undefined;
}

export interface Watch {
  readonly requests: number;
  /** Resolves at the first request. */
  readonly seen: Promise<void>;
  end(): void;
}

/** Tells whether requests reach the mirror: the one proof that a runtime uses it. */
export class Witness {
  readonly #watches = new Set<(asked: Asked) => void>();

  /** Called by the mirror with each request that names a repository. */
  saw(asked: Asked): void {
    for (const watch of this.#watches) watch(asked);
  }

  /** Counts requests from now on until `end`. */
  watch(wanted: Asked): Watch {
    let requests = 0;
    let wake: () => void = () => undefined;
    const seen = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const look = (asked: Asked): void => {
      if (asked.registry !== wanted.registry || asked.repository !== wanted.repository) return;
      if (wanted.reference !== undefined && asked.reference !== wanted.reference) return;
      requests++;
      wake();
    };
    this.#watches.add(look);
    return {
      get requests() {
        return requests;
      },
      seen,
      end: () => void this.#watches.delete(look),
    };
  }
}
