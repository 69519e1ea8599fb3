import { randomBytes } from 'node:crypto';
import { describeError, isTidepoolError } from '../../../shared/errors.ts';
import { CALL_MS, SELF_TEST_MS, SELF_TEST_REGISTRY, SELF_TEST_REPOSITORY } from './constants.ts';
import type { RuntimeConnection } from './types.ts';
import type { Witness } from './witness.ts';

export interface SelfTestResult {
  /** Whether what this runtime pulls is asked of the mirror. */
  readonly mirror: 'yes' | 'no' | 'unknown';
  /** Name and version, once it has told them. */
  readonly runtime: string | undefined;
  /** Why not, or why it is unknown. */
  readonly reason: string | undefined;
}

/**
 * Has the runtime pull an image that exists nowhere, under a name never used before, and looks whether the mirror is
 * asked for it. Rejects only with the signal's reason.
 */
export async function selfTest(
  components: { readonly connection: RuntimeConnection; readonly witness: Witness },
  signal: AbortSignal,
  timeoutMs = SELF_TEST_MS,
): Promise<SelfTestResult> {
  const { connection, witness } = components;
  let runtime: string | undefined;
  try {
    const { name, version } = await connection.version({ signal, timeoutMs: CALL_MS });
    runtime = `${name} ${version}`;
  } catch (error) {
    signal.throwIfAborted();
    return { mirror: 'unknown', runtime, reason: describeError(error) };
  }
  const nonce = randomBytes(8).toString('hex');
  const watch = witness.watch({
    registry: SELF_TEST_REGISTRY,
    repository: SELF_TEST_REPOSITORY,
    reference: nonce,
  });
  const pull = new AbortController();
  const onAbort = (): void => pull.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const reference = `${SELF_TEST_REGISTRY}/${SELF_TEST_REPOSITORY}:${nonce}`;
  try {
    const failure = connection.pullImage(reference, { signal: pull.signal, timeoutMs }).then(
      () => undefined,
      (error: unknown) => error,
    );
    const error = await Promise.race([watch.seen.then(() => undefined), failure]);
    signal.throwIfAborted();
    if (watch.requests > 0) return { mirror: 'yes', runtime, reason: undefined };
    if (isTidepoolError(error, 'RUNTIME_NOT_CONFIGURED')) {
      return { mirror: 'unknown', runtime, reason: describeError(error) };
    }
    return {
      mirror: 'no',
      runtime,
      // Without the name, which is new each time: the same finding must read the same.
      reason: `${runtime} pulled an image of ${SELF_TEST_REGISTRY} without asking the mirror: ${describeError(error).replaceAll(nonce, '…')}`,
    };
  } finally {
    pull.abort(new Error('the self-test is over'));
    signal.removeEventListener('abort', onAbort);
    watch.end();
  }
}
