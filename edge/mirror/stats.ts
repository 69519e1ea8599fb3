export const REQUEST_KINDS = ['base', 'manifest', 'blob', 'referrers', 'tags', 'other'] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

export interface MirrorSnapshot {
  /** Ended requests; status 499 where the client left first, 0 where the answer broke off in mid-body. */
  readonly requests: readonly {
    readonly kind: RequestKind;
    readonly status: number;
    readonly count: number;
  }[];
  /** Bytes of bodies that the runtime's socket has taken. */
  readonly bytes: number;
  /** Tags answered from a record because the origin could not be asked. */
  readonly staleAnswers: number;
  readonly stalls: number;
  /** Requests under way. */
  readonly active: number;
}

/** Counters of one mirror, for health and metrics. */
export class MirrorStats {
  readonly #requests = new Map<RequestKind, Map<number, number>>();
  #bytes = 0;
  #staleAnswers = 0;
  #stalls = 0;
  #active = 0;

  begin(): void {
    this.#active++;
  }

  end(kind: RequestKind, status: number): void {
    this.#active--;
    const byStatus = this.#requests.get(kind) ?? new Map<number, number>();
    this.#requests.set(kind, byStatus);
    byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
  }

  sent(bytes: number): void {
    this.#bytes += bytes;
  }

  staleAnswer(): void {
    this.#staleAnswers++;
  }

  stall(): void {
    this.#stalls++;
  }

  snapshot(): MirrorSnapshot {
    const requests = [...this.#requests].flatMap(([kind, byStatus]) =>
      [...byStatus].map(([status, count]) => ({ kind, status, count })),
    );
    return {
      requests,
      bytes: this.#bytes,
      staleAnswers: this.#staleAnswers,
      stalls: this.#stalls,
      active: this.#active,
    };
  }
}
