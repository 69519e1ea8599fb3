import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadHubSettings, parseListen, type WrittenSettings } from '../../../../cloud/config/settings.ts';
import { describeError } from '../../../../shared/errors.ts';
import { TEST_CERT } from '../../../support/tls-fixture.ts';

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

  it('takes what a broker elsewhere proves itself by, from flags and the file', async () => {
    const ca = path.join(directory, 'site.pem');
    await writeFile(ca, TEST_CERT);
    const broker = 'mqtts://b.example:8883';
    expect((await loadHubSettings({ broker, brokerCa: ca }, undefined)).brokerTrust).toEqual({
      ca: TEST_CERT,
    });
    expect((await loadHubSettings({ broker, brokerCa: ca, insecure: true }, undefined)).brokerTrust).toEqual({
      ca: TEST_CERT,
    });
    const name = await file(`broker: ${broker}\nbrokerNode: b1\n`);
    expect((await loadHubSettings({}, name)).brokerTrust).toEqual({ node: 'b1' });
    expect((await loadHubSettings({ broker }, undefined)).brokerTrust).toBeUndefined();
    const refused = async (flags: WrittenSettings): Promise<string> => {
      const error: unknown = await loadHubSettings({ broker, ...flags }, undefined).catch((e: unknown) => e);
      expect(error).toMatchObject({ code: 'INVALID_CONFIG' });
      return describeError(error);
    };
    expect(await refused({ brokerCa: ca, brokerNode: 'b1' })).toMatch(/--broker-ca and --broker-node .* one/);
    expect(await refused({ brokerCa: ca, broker: 'mqtt://b.example:1883' })).toMatch(/plain .* write mqtts:/);
    expect(await refused({ brokerCa: ca, broker: 'embedded' })).toMatch(/about a broker elsewhere/);
    expect(await refused({ brokerNode: 'b1', insecure: true })).toMatch(
      /--broker-node needs the cert.*--broker-ca/,
    );
    expect(await refused({ brokerCa: path.join(directory, 'no.pem') })).toMatch(/no\.pem cannot be read/);
    await writeFile(ca, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    expect(await refused({ brokerCa: ca })).toMatch(/--broker-ca: .*site\.pem" is no authority/);
    await writeFile(ca, 'nothing');
    expect(await refused({ brokerCa: ca })).toMatch(/no PEM certificate in it/);
  });

  it('reads addresses as people write them', () => {
    expect(parseListen(':80')).toEqual({ host: '0.0.0.0', port: 80 });
    expect(parseListen('[::]:80')).toEqual({ host: '::', port: 80 });
    expect(() => parseListen('a:99999')).toThrow(/not an address/);
    expect(() => parseListen('::1:80')).toThrow(/not an address/);
  });
});
