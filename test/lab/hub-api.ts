import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inNetns, mustRun } from './process.ts';

/** Where a hub of the lab answers, and what proves who asks. */
export interface HubPlace {
  readonly netns: string;
  readonly data: string;
  readonly port: number;
}

/** Asks a hub's API the way every HTTP client does that knows the authority and has a token. */
export async function askHub<T>({ netns, data, port }: HubPlace, route: string): Promise<T> {
  const token = readFileSync(join(data, 'admin-token'), 'utf8').trim();
  const flags = ['--silent', '--show-error', '--fail-with-body', '--max-time', '5'];
  const { stdout } = await mustRun(
    inNetns(netns, [
      'curl',
      ...flags,
      '--cacert',
      join(data, 'trust', 'ca.pem'),
      '--header',
      `authorization: Bearer ${token}`,
      `https://127.0.0.1:${port}${route}`,
    ]),
  );
  return JSON.parse(stdout) as T;
}
