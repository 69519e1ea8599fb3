import { TidepoolError } from '../../shared/errors.ts';

/** Whoever asks too often, with when to come again. Runtimes never see it: they have no business with the hub. */
export class TooMany extends TidepoolError {
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number) {
    super('OVERLOADED', message, { details: { retryAfterMs } });
    this.retryAfterMs = retryAfterMs;
  }

  override get status(): number {
    return 429;
  }
}
