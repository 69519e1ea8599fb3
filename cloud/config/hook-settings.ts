/** Settings of `POST /v1/hooks/registry`: which pushes to a registry become prefetches. */
import * as z from 'zod';
import { isRegistryHost } from '../../shared/image-ref.ts';
import { poolName } from '../../shared/wire/messages/fields.ts';

const MAX_RULES = 200;
const MAX_TAG_PATTERNS = 20;

const repositoryPattern = z
  .string()
  .max(255)
  .regex(
    /^[a-z0-9*][a-z0-9._/*-]*$/,
    'expected a repository without its registry, as in team/web or team/*; * stands for anything but /, ** for anything',
  );
const tagPattern = z
  .string()
  .max(128)
  .regex(/^[A-Za-z0-9_*][A-Za-z0-9_.*-]*$/, 'expected a tag, as in v1.2 or v*');

export const hookRule = z.strictObject({
  repository: repositoryPattern,
  /** Any when left out. */
  tags: z
    .preprocess(
      (value) => (typeof value === 'string' ? [value] : value),
      z.array(tagPattern).min(1).max(MAX_TAG_PATTERNS),
    )
    .optional(),
  pools: z.array(poolName).min(1).max(1_000),
  /** As image references of the edge name the registry, where that is not how it names itself. */
  registry: z
    .string()
    .refine(isRegistryHost, 'not a registry host; write it like registry.example:5000')
    .optional(),
});
export type HookRule = z.infer<typeof hookRule>;

export const hookSettings = z.strictObject({
  registry: z
    .strictObject({
      /** Holds what the registry sends as its Authorization header. */
      secretFile: z.string().min(1).optional(),
      /** The first that fits a push counts. */
      rules: z.array(hookRule).max(MAX_RULES).default([]),
    })
    .optional(),
});
export type HookSettings = z.infer<typeof hookSettings>;
/** As people write them. */
export type WrittenHookSettings = z.input<typeof hookSettings>;
