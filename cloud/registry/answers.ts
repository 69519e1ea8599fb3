/** What registries answer, read within bounds. */
import type { Dispatcher } from 'undici';
import { TidepoolError } from '../../shared/errors.ts';

/** Of an answer that says what is wrong. */
export const MAX_ERROR_BYTES = 16 * 1024;

/** Its body, whole; of an error's only the beginning. */
export async function readAnswer(answer: Dispatcher.ResponseData, from: URL, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer.body) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > limit) {
      answer.body.destroy();
      if (answer.statusCode !== 200) break;
      throw new TidepoolError('ORIGIN_ERROR', `${from.origin} sent more than ${limit} bytes`);
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

/** The first error of the registry's own words. */
export function errorText(body: Buffer): { readonly code: string; readonly message: string } | undefined {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    const errors = typeof parsed === 'object' && parsed !== null && 'errors' in parsed ? parsed.errors : [];
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
    if (typeof first !== 'object' || first === null) return undefined;
    const { code, message }: { code?: unknown; message?: unknown } = first;
    return {
      code: typeof code === 'string' ? code : '',
      message: typeof message === 'string' ? message : String(code),
    };
  } catch {
    return undefined;
  }
}
