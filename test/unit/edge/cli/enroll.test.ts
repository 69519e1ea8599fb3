import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cli } from '../../../support/cli-capture.ts';
import { EnrolmentHub } from '../../../support/enrolment-hub.ts';
import { TestAuthority } from '../../../support/trust.ts';

let directory: string;
let hub: EnrolmentHub;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'enroll-'));
  hub = new EnrolmentHub(await TestAuthority.make());
  await hub.start();
});
afterEach(async () => {
  await hub.stop();
  rmSync(directory, { recursive: true, force: true });
});

const enroll = (...more: string[]) =>
  cli(['enroll', '--node=n1', `--data=${directory}`, `--enroll-url=${hub.url}`, ...more]);

describe('enroll', () => {
  it('tells what the certificate says, and takes the place of the one before when told to', async () => {
    const first = await enroll(`--join=${hub.token}`);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toMatch(/^node n1 is enrolled in pool shop-1, until \d{4}-.*\nkey [0-9a-f]{64}\n$/);
    const second = await enroll(`--join=${hub.token}`, '--replace', '--json');
    expect(JSON.parse(second.stdout)).toMatchObject({ node: 'n1', pool: 'shop-1' });
    expect(first.stdout).not.toContain(JSON.parse(second.stdout).keyId);
    expect(hub.requests.map(({ body }) => body.replace)).toEqual([undefined, true]);
  });

  it('ends with what to do, and never with the token', async () => {
    hub.refuse = 'CONFLICT';
    const taken = await enroll(`--join=${hub.token}`);
    expect(taken.code).toBe(1);
    expect(taken.stderr).toMatch(/^error: the hub at https:.*refuses: .*\(CONFLICT\)\n$/);
    const [broken, none, two, lone] = await Promise.all([
      enroll(`--join=${hub.token}x`),
      enroll(),
      enroll(`--join=${hub.token}`, '--join-file=/tmp/x'),
      enroll('--sa-token=/tmp/x'),
    ]);
    expect(broken.stderr).toMatch(/^error: --join: not /);
    expect(none.stderr).toContain('give --join, --join-file or --sa-token');
    expect(two.stderr).toContain('by one credential');
    expect(lone.stderr).toContain('say with --ca');
    for (const { code } of [broken, none, two, lone]) expect(code).toBe(2);
    for (const { stderr } of [taken, broken, two]) expect(stderr).not.toContain(hub.token.split('.')[2]);
  });
});
