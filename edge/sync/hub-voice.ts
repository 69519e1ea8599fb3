import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { MAX_ENVELOPE_BYTES, openMessage } from '../../shared/trust/envelope.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/wire/topics.ts';
import { COMPLAIN_MS } from './constants.ts';

export interface HubVoiceComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined: whatever the broker carries is the hub's. */
  readonly identity?: TlsIdentity | undefined;
}

/** Tells what the hub has said from what others say in its name, before anything of it is read. */
export class HubVoice {
  readonly #c: HubVoiceComponents;
  #bad = 0;
  #untold = 0;
  #complainedAt = Number.NEGATIVE_INFINITY;

  constructor(components: HubVoiceComponents) {
    this.#c = components;
  }

  /** Whether messages have to be signed. */
  get isChecked(): boolean {
    return this.#c.identity !== undefined;
  }

  /** Messages that were refused. */
  get refused(): number {
    return this.#bad;
  }

  /**
   * What was said on this topic.
   * @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG; Error for what is too large
   */
  open(topic: string, payload: Uint8Array): Uint8Array {
    const { identity } = this.#c;
    const max = identity === undefined ? MAX_MESSAGE_BYTES : MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES;
    if (payload.length > max) throw new Error(`${payload.length} bytes`);
    if (identity === undefined) return payload;
    const body = openMessage(topic, payload, (certificate) => identity.judge(certificate));
    if (body.length > MAX_MESSAGE_BYTES) throw new Error(`${body.length} bytes`);
    return body;
  }

  /** Counts a message that is of no use, and tells of it now and then. */
  refuse(topic: string, error: unknown): void {
    const { clock, log } = this.#c;
    this.#bad++;
    const now = clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) {
      this.#untold++;
      return;
    }
    log.warn({ topic, reason: describeError(error), andOthers: this.#untold }, 'message of the hub refused');
    this.#complainedAt = now;
    this.#untold = 0;
  }
}
