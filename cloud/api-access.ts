/** Who may use the API, and where it is written what they did. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import type { Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import type { ApiComponents } from './api/types.ts';
import type { HubSettings } from './config/settings.ts';
import type { Sources } from './sources.ts';
import { ApiTokens } from './trust/api-tokens.ts';
import { AuditLog } from './trust/audit-log.ts';
import { HandedCredentials } from './trust/handed-credentials.ts';

export interface ApiAccess {
  readonly components: Pick<ApiComponents, 'tokens' | 'audit' | 'handed' | 'outside' | 'secrets'>;
  /** Started before the API. */
  readonly parts: readonly Startable[];
}

interface ApiAccessComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly sources: Pick<Sources, 'outside' | 'secrets'>;
}

export function makeApiAccess(
  { clock, log, sources }: ApiAccessComponents,
  { data, insecure }: Pick<HubSettings, 'data' | 'insecure'>,
): ApiAccess {
  const audit = new AuditLog({ clock, log }, { file: path.join(data, 'audit.log') });
  if (insecure) return { components: { audit }, parts: [audit] };
  const tokens = new ApiTokens(
    { clock },
    { file: path.join(data, 'api-tokens.json'), adminFile: path.join(data, 'admin-token') },
  );
  const handed = new HandedCredentials({ clock }, { file: path.join(data, 'handed-credentials.json') });
  const { outside, secrets } = sources;
  return { components: { audit, tokens, handed, outside, secrets }, parts: [audit, tokens, handed] };
}
