import type * as z from 'zod';
import { TidepoolError } from '../../errors.ts';

/** @throws TidepoolError INVALID_ARGUMENT, with the first offence and where it stands */
export function decode<T>(schema: z.ZodType<T>, payload: Uint8Array, what: string): T {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `${what} is not JSON`, { cause: error });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `${what}: ${issue?.path.join('.') || '(root)'}: ${issue?.message ?? 'invalid'}`,
  );
}

export function encode(message: unknown): Buffer {
  return Buffer.from(JSON.stringify(message));
}
