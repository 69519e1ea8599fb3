/**
 * Fields that several messages have. Every payload between hub and agents is JSON, at most 64 KiB, checked by a schema of
 * this folder where it enters a process. Unknown fields are dropped, so that a newer side can add some.
 */
import * as z from 'zod';
import { isDigest, type NodeName, type PoolName, parseNodeName, parsePoolName } from '../../ids.ts';
import { DAYS, parseClock, parseTimezone } from '../../time-window.ts';
import { parseBytes, parseDuration, parseRate } from '../../units.ts';

/** A field that a parser of its own reads; what it refuses is the issue. */
export const viaParser = <T>(parse: (text: string) => T) =>
  z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });

export const nodeName = viaParser<NodeName>(parseNodeName);
export const poolName = viaParser<PoolName>(parsePoolName);
export const digest = z.string().refine(isDigest, 'expected sha256: and 64 hex digits');
/** `20Mbit` as people write it, to bytes a second. */
export const rate = viaParser(parseRate);
/** `8Gi` to bytes. */
export const size = viaParser(parseBytes);
/** `30s` to ms. */
export const duration = viaParser(parseDuration);

/** Labels select nodes; several expressions must all hold. */
export const matchExpression = z.strictObject({
  key: z.string().min(1),
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).default('In'),
  value: z.string().optional(),
  values: z.array(z.string()).optional(),
});
export type MatchExpression = z.infer<typeof matchExpression>;

/** Checked by the parser, kept as it was written: what agents echo is what people wrote. */
const asWritten = (parse: (text: string) => unknown) => {
  const parsed = viaParser(parse);
  return z.string().superRefine((text, context) => {
    const result = parsed.safeParse(text);
    if (!result.success) {
      context.addIssue({ code: 'custom', message: result.error.issues[0]?.message ?? 'invalid' });
    }
  });
};
export const rateText = asWritten(parseRate);
export const sizeText = asWritten(parseBytes);
export const timezone = asWritten(parseTimezone);
const timeOfDay = asWritten(parseClock);

/** Hours of local time; at most 32 of them make a schedule. */
export const timeWindow = z.strictObject({
  days: z
    .array(z.enum(DAYS, `not a day; write one of ${DAYS.join(', ')}`))
    .min(1)
    .optional(),
  start: timeOfDay,
  end: timeOfDay,
  timezone: timezone.optional(),
});
export const timeWindows = z.array(timeWindow).max(32);
