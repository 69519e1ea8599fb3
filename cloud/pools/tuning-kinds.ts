/** Settings of each tuning kind as people write them, and what they become on the wire. */
import * as z from 'zod';
import { isRegistryHost } from '../../shared/image-ref.ts';
import { LOG_LEVELS, type LogLevel } from '../../shared/log.ts';
import {
  matchExpression,
  poolName,
  rateText,
  sizeText,
  timeWindows,
  timezone,
} from '../../shared/wire/messages/fields.ts';
import {
  offlineAccess,
  registryTuning,
  type TuningSettings,
  tagPolicy,
} from '../../shared/wire/messages/tuning.ts';
import { NO_CAP } from '../../shared/wire/tuning.ts';
import { POOL_LABEL } from './membership.ts';
import { flawOf } from './selectors.ts';

/** A cap, or the word that takes one back. */
const orNone = (text: z.ZodType<string>) =>
  z.string().superRefine((written, context) => {
    if (written === NO_CAP) return;
    const result = text.safeParse(written);
    if (result.success) return;
    const why = result.error.issues[0]?.message ?? 'invalid';
    context.addIssue({ code: 'custom', message: `${why}; ${NO_CAP} lifts what an earlier entry set` });
  });
const rateCap = orNone(rateText);
const sizeCap = orNone(sizeText);

const soundExpression = matchExpression.superRefine((expression, context) => {
  const flaw = flawOf(expression);
  if (flaw !== undefined) context.addIssue({ code: 'custom', message: flaw });
});
/**
 * Another pool by its name, or `address:port` of one of its members' peer ports: a literal address, for names of hosts
 * would need a DNS that is gone when the cloud is.
 */
const upstream = z.string().superRefine((text, context) => {
  const address = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):\d{1,5}$/;
  if (address.test(text) || poolName.safeParse(text).success) return;
  const message = "expected address:port, as in 10.0.0.7:6181, or a pool's name";
  context.addIssue({ code: 'custom', message });
});

const wan = z
  .strictObject({
    download: rateCap.optional(),
    prefetchDownload: rateCap.optional(),
    prefetch: z
      .strictObject({
        download: rateCap.optional(),
        windows: timeWindows.optional(),
        dailyBudget: sizeCap.optional(),
        timezone: timezone.optional(),
      })
      .optional(),
    connections: z.number().int().min(1).max(64).optional(),
  })
  .superRefine(({ prefetch, prefetchDownload }, context) => {
    if (prefetch?.download !== undefined && prefetchDownload !== undefined) {
      context.addIssue({
        code: 'custom',
        message: 'prefetch.download and prefetchDownload say the same; keep one',
      });
    }
  })
  .transform(({ prefetch = {}, ...rest }): TuningSettings => {
    const { download, windows, dailyBudget, timezone: zone } = prefetch;
    return {
      wan: {
        ...rest,
        ...(download === undefined ? {} : { prefetchDownload: download }),
        ...(windows === undefined ? {} : { prefetchWindows: windows }),
        ...(dailyBudget === undefined ? {} : { prefetchDailyBudget: dailyBudget }),
        ...(zone === undefined ? {} : { prefetchTimezone: zone }),
      },
    };
  });
const lan = z
  .strictObject({ upload: rateCap.optional(), download: rateCap.optional() })
  .transform((settings): TuningSettings => ({ lan: settings }));
const swarm = z
  .strictObject({
    gateways: z.array(soundExpression).min(1).optional(),
    weight: z.number().min(0).max(100).optional(),
    upstream: z
      .preprocess((value) => (typeof value === 'string' ? [value] : value), z.array(upstream).max(32))
      .optional(),
  })
  .transform((settings): TuningSettings => ({ swarm: settings }));
const tags = z
  .strictObject({
    policy: tagPolicy.optional(),
    quorum: z.number().int().min(1).max(9).optional(),
    offlineAccess: offlineAccess.optional(),
  })
  .transform((settings): TuningSettings => ({ tags: settings }));
const cache = z
  .strictObject({
    quota: sizeCap.optional(),
    minReplicas: z.number().int().min(1).max(9).optional(),
    shareRuntime: z.boolean().optional(),
    keepTwice: z.boolean().optional(),
  })
  .transform((settings): TuningSettings => ({ cache: settings }));
const prefetch = z
  .strictObject({
    concurrency: z.number().int().min(1).max(16).optional(),
    followWorkloads: z.boolean().optional(),
  })
  .transform((settings): TuningSettings => ({ prefetch: settings }));
const registries = z
  .record(
    z
      .string()
      .refine(isRegistryHost, 'not a registry host; write it like docker.io or registry.example:5000'),
    registryTuning,
  )
  .refine((settings) => Object.keys(settings).length <= 32, 'at most 32 registries')
  .transform((settings): TuningSettings => ({ registries: settings }));
const runtime = z
  .strictObject({ originFallback: z.boolean().optional() })
  .transform((settings): TuningSettings => ({ runtime: settings }));
const level = z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'] satisfies LogLevel[]);
const logLevel = z
  .union([level, z.strictObject({ level })], `expected {level: L}, L one of ${LOG_LEVELS.join(', ')}`)
  .transform(
    (settings): TuningSettings => ({
      logLevel: typeof settings === 'string' ? settings : settings.level,
    }),
  );

/** One entry of a kind: the nodes it is for, and their settings. */
export interface TuningEntry {
  readonly name: string;
  /** All must hold; none at all is every node. */
  readonly match: readonly z.infer<typeof matchExpression>[];
  readonly settings: TuningSettings;
}

const entry = (settings: z.ZodType<TuningSettings>): z.ZodType<TuningEntry> =>
  z
    .strictObject({
      name: z.string().min(1).max(253),
      key: z.string().min(1).optional(),
      operator: matchExpression.shape.operator.unwrap().optional(),
      value: z.string().optional(),
      values: z.array(z.string()).optional(),
      match: z.array(soundExpression).max(32).optional(),
      pool: poolName.optional(),
      settings,
    })
    .transform((written, context) => {
      const { key, operator, value, values, pool } = written;
      const match = [...(written.match ?? [])];
      if (pool !== undefined) match.push({ key: POOL_LABEL, operator: 'In', value: pool });
      if (key !== undefined) {
        const parsed = soundExpression.safeParse({ key, operator, value, values });
        if (parsed.success) match.push(parsed.data);
        else context.addIssue({ code: 'custom', message: parsed.error.issues[0]?.message ?? 'bad selector' });
      } else if (operator !== undefined || value !== undefined || values !== undefined) {
        context.addIssue({ code: 'custom', message: 'operator and values need a key' });
      }
      return { name: written.name, match, settings: written.settings };
    });

export const TUNING_KINDS = {
  wan: entry(wan),
  lan: entry(lan),
  swarm: entry(swarm),
  tags: entry(tags),
  cache: entry(cache),
  prefetch: entry(prefetch),
  registries: entry(registries),
  runtime: entry(runtime),
  logLevel: entry(logLevel),
} as const satisfies Record<string, z.ZodType<TuningEntry>>;

export type TuningKind = keyof typeof TUNING_KINDS;

export function isTuningKind(text: string): text is TuningKind {
  return Object.hasOwn(TUNING_KINDS, text);
}
