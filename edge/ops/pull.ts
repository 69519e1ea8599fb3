import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { formatImageRef, parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { PullCounts, PullEvent } from './api.ts';
import { PROGRESS_MS } from './constants.ts';
import { readJson } from './requests.ts';
import type { OpsSources } from './sources.ts';

/** The shape alone, so that a typo is refused before the answer begins; what it means is the pull's business. */
const PLATFORM = /^[a-z0-9_.-]+(\/[a-z0-9_.-]+){1,2}$/;

const pullRequest = z.strictObject({
  image: z.string().min(1).max(1_000),
  platforms: z
    .array(z.string().max(100).regex(PLATFORM, 'not a platform; write it like linux/amd64 or linux/arm/v7'))
    .max(16)
    .optional(),
  username: z.string().max(1_000).optional(),
  password: z.string().max(20_000).optional(),
  runtime: z.boolean().optional(),
});

interface PullComponents {
  readonly sources: Pick<OpsSources, 'pull'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** `POST /v1/pull`: a line at the start, lines while bytes move, one at the end. A client that leaves ends its pull. */
export async function servePull(
  components: PullComponents,
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log, sources } = components;
  const parsed = pullRequest.safeParse(await readJson(request));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `${issue?.path.join('.') || 'body'}: ${issue?.message ?? ''}`,
    );
  }
  const { platforms = [], runtime = false, username, password } = parsed.data;
  const image = parseImageRef(parsed.data.image);
  const startedAt = clock.mono();
  const write = (event: PullEvent): boolean => response.write(`${JSON.stringify(event)}\n`);
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  response.flushHeaders();
  let toldAt = Number.NEGATIVE_INFINITY;
  try {
    const outcome = await sources.pull(
      {
        image,
        platforms,
        runtime,
        credentials: username === undefined ? undefined : { username, password: password ?? '' },
        onProgress: (counts) => {
          // A client that does not read gets no lines that would pile up here.
          if (clock.mono() - toldAt < PROGRESS_MS || response.writableNeedDrain) return;
          toldAt = clock.mono();
          write({ type: 'progress', ...countsOf(counts) });
        },
      },
      signal,
    );
    const { digest, imageId, manifests, staleSince } = outcome;
    const seconds = (clock.mono() - startedAt) / 1000;
    write({
      type: 'done',
      image: formatImageRef(image),
      digest,
      manifests,
      staleSince,
      imageId,
      seconds,
      ...countsOf(outcome),
    });
  } catch (error) {
    const { code, message } = toTidepoolError(signal.aborted ? signal.reason : error);
    log.info({ image: formatImageRef(image), code }, 'a pull by hand did not succeed');
    if (!response.destroyed) write({ type: 'error', code, message });
  }
  if (response.destroyed) return;
  response.end();
  await Promise.race([once(response, 'finish'), once(response, 'close')]);
}

function countsOf({ totalBytes, doneBytes, wanBytes, peerBytes, blobs, blobsDone }: PullCounts): PullCounts {
  return { totalBytes, doneBytes, wanBytes, peerBytes, blobs, blobsDone };
}
