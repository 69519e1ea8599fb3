import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadHubSettings, parseListen } from '../../../../cloud/config/settings.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-settings-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function file(text: string): Promise<string> {
  const name = path.join(directory, 'hub.yaml');
  await writeFile(name, text);
  return name;
}

describe('loadHubSettings', () => {
  it('has a default for everything', async () => {
    expect(await loadHubSettings({}, undefined)).toMatchObject({
      documents: undefined,
      broker: 'embedded',
      mqtt: { host: '0.0.0.0', port: 6183 },
      api: { host: '0.0.0.0', port: 6190 },
      data: '/var/lib/tidepool-hub',
      insecure: false,
      pinTags: true,
      registries: {},
      logLevel: 'info',
    });
  });

  it('flags go over the file', async () => {
    const name = await file(
      'documents: /d\nmqtt: 127.0.0.1:1\napi: 127.0.0.1:2\ninsecure: true\nlogLevel: debug\n',
    );
    const settings = await loadHubSettings({ api: '[::1]:3', broker: 'mqtts://b.example:8883' }, name);
    expect(settings).toMatchObject({
      documents: '/d',
      broker: 'mqtts://b.example:8883',
      mqtt: { host: '127.0.0.1', port: 1 },
      api: { host: '::1', port: 3 },
      insecure: true,
      logLevel: 'debug',
    });
    expect(Object.isFrozen(settings)).toBe(true);
  });

  it('refuses an unknown key with its line and the key that was meant', async () => {
    const name = await file('mqtt: 127.0.0.1:1\n\ndocumets: /d\n');
    await expect(loadHubSettings({}, name)).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: `${name}:3: unknown key "documets"; did you mean "documents"?`,
    });
  });

  it.each([
    ['mqtt: nowhere', /:1: mqtt: not an address to listen at: "nowhere"/],
    ['broker: http://x', /:1: broker: not a broker: "http:\/\/x"/],
    ['logLevel: loud', /:1: logLevel: /],
    ['insecure: "yes"', /:1: insecure: /],
  ])('refuses %s', async (text, message) => {
    await expect(loadHubSettings({}, await file(text))).rejects.toThrow(message);
  });

  it('refuses bad flags, and a file that is not there', async () => {
    await expect(loadHubSettings({ api: 'x' }, undefined)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await expect(loadHubSettings({ broker: 'x' }, undefined)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await expect(loadHubSettings({}, path.join(directory, 'no.yaml'))).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
    });
  });

  it('reads addresses as people write them', () => {
    expect(parseListen(':80')).toEqual({ host: '0.0.0.0', port: 80 });
    expect(parseListen('[::]:80')).toEqual({ host: '::', port: 80 });
    expect(() => parseListen('a:99999')).toThrow(/not an address/);
    expect(() => parseListen('::1:80')).toThrow(/not an address/);
  });
});
