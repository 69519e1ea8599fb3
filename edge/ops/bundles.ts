import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { type ImageRef, parseImageRef } from '../../shared/image-ref.ts';
import type { Credentials } from '../origin/types.ts';
import type { BundleEvent, BundleImported } from './api.ts';
import { BUNDLE_SIGNED_HEADER, BUNDLE_TYPE } from './api.ts';
import { PROGRESS_MS } from './constants.ts';
import { readJson } from './requests.ts';

export interface ImportWanted {
  readonly unsigned: boolean;
  readonly anyPlatform: boolean;
  readonly check: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

export interface ExportWanted {
  readonly images: readonly ImageRef[];
  /** This node's own where none is named. */
  readonly platforms: readonly string[];
  readonly credentials: Credentials | undefined;
  readonly signal: AbortSignal;
}

/** Who takes bundles in and gives them out. */
export interface BundleDesk {
  take(source: AsyncIterable<Uint8Array>, wanted: ImportWanted): Promise<BundleImported>;
  export(wanted: ExportWanted): Promise<{
    readonly bytes: number;
    readonly isSigned: boolean;
    readonly tar: AsyncIterable<Uint8Array>;
  }>;
}

const exportRequest = z.strictObject({
  images: z.array(z.string().max(1_000)).min(1).max(256),
  platforms: z.array(z.string().max(100)).max(16).default([]),
  username: z.string().max(1_000).optional(),
  password: z.string().max(20_000).optional(),
});

/**
 * `POST /v1/bundles/import?check&unsigned&anyPlatform`: the body is the bundle, of any length; the answer begins at once and
 * ends with what became of it, whether all of the body has come by then or not.
 */
export async function serveImport(
  { bundles, clock }: { readonly bundles: BundleDesk; readonly clock: Clock },
  request: IncomingMessage,
  query: URLSearchParams,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  // A page in a browser cannot send this type without asking first, and is refused then.
  if (request.headers['content-type'] !== BUNDLE_TYPE) {
    throw new TidepoolError('INVALID_ARGUMENT', `the body must be ${BUNDLE_TYPE}`);
  }
  const write = (event: BundleEvent): boolean => response.write(`${JSON.stringify(event)}\n`);
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  response.flushHeaders();
  const startedAt = clock.mono();
  let toldAt = Number.NEGATIVE_INFINITY;
  try {
    // What is left of the body when it is refused must not end the connection before the answer.
    const imported = await bundles.take(request.iterator({ destroyOnReturn: false }), {
      check: query.has('check'),
      unsigned: query.has('unsigned'),
      anyPlatform: query.has('anyPlatform'),
      signal,
      onProgress: (doneBytes, totalBytes) => {
        if (clock.mono() - toldAt < PROGRESS_MS || response.writableNeedDrain) return;
        toldAt = clock.mono();
        write({ type: 'progress', doneBytes, totalBytes });
      },
    });
    write({ type: 'done', ...imported, seconds: (clock.mono() - startedAt) / 1000 });
  } catch (error) {
    const { code, message } = toTidepoolError(signal.aborted ? signal.reason : error);
    if (!response.destroyed) write({ type: 'error', code, message });
  }
  request.resume();
  if (response.destroyed) return;
  response.end();
  await Promise.race([once(response, 'finish'), once(response, 'close')]);
}

/** `POST /v1/bundles/export`: the answer is the bundle. */
export async function serveExport(
  { bundles }: { readonly bundles: BundleDesk },
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const parsed = exportRequest.safeParse(await readJson(request));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new TidepoolError('INVALID_ARGUMENT', `${issue?.path.join('.') || 'body'}: ${issue?.message}`);
  }
  const { images, platforms, username, password } = parsed.data;
  const { bytes, isSigned, tar } = await bundles.export({
    images: images.map(parseImageRef),
    platforms,
    credentials: username === undefined ? undefined : { username, password: password ?? '' },
    signal,
  });
  response.writeHead(200, {
    'content-type': BUNDLE_TYPE,
    'content-length': bytes,
    [BUNDLE_SIGNED_HEADER]: String(isSigned),
    'cache-control': 'no-store',
  });
  // An end before the length that was told says that something went wrong.
  await pipeline(tar, response);
}
