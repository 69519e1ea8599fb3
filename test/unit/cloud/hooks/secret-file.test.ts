import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SecretFile } from '../../../../cloud/hooks/secret-file.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-secret-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('SecretFile', () => {
  it('takes the secret alone or as a bearer token, and another file content once it was replaced', async () => {
    const clock = new ManualClock();
    const file = path.join(directory, 'secret');
    const secret = new SecretFile({ clock }, { path: file });
    await expect(secret.fits('x')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringMatching(/ENOENT/),
    });
    await writeFile(file, 'short\n');
    await expect(secret.fits('short')).rejects.toThrow(/fewer than 16 characters/);
    await writeFile(file, 'Basic dXNlcjpwYXNzd29yZA==\n');
    expect(await secret.fits('Basic dXNlcjpwYXNzd29yZA==')).toBe(true);
    expect(await secret.fits('Bearer Basic dXNlcjpwYXNzd29yZA==')).toBe(true);
    expect(await secret.fits('dXNlcjpwYXNzd29yZA==')).toBe(false);
    expect(await secret.fits(undefined)).toBe(false);
    expect(await secret.fits('')).toBe(false);
    await writeFile(file, 'another secret of some length');
    expect(await secret.fits('another secret of some length')).toBe(false);
    clock.advance(5_000);
    expect(await secret.fits('another secret of some length')).toBe(true);
    expect(await secret.fits('Basic dXNlcjpwYXNzd29yZA==')).toBe(false);
  });
});
