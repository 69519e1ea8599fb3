import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adviseContainerd } from '../../../../../edge/runtime/containerd/advice.ts';
import { judgeDaemonConfig } from '../../../../../edge/runtime/containerd/daemon-config.ts';

const path = '/etc/containerd/config.toml';
const certsDir = '/etc/containerd/certs.d';
const judge = (text: string | undefined, major?: number) =>
  judgeDaemonConfig({ text, path, certsDir, major });
const V1 = '[plugins."io.containerd.grpc.v1.cri".registry]\n';
const V2 = '[plugins."io.containerd.cri.v1.images".registry]\n';

describe('judgeDaemonConfig', () => {
  it.each([
    [`version = 2\n${V1}config_path = "${certsDir}"\n`, 1],
    [`version = 3\n${V2}config_path = '${certsDir}/'\n`, 2],
    [`version = 2\n${V1}config_path = "${certsDir}"\n`, 2],
    [`plugins."io.containerd.grpc.v1.cri".registry.config_path = "${certsDir}"`, undefined],
  ])('is content where the settings name the directory alone: %j', (text, major) => {
    expect(judge(text, major)).toEqual({
      reads: 'yes',
      directories: [expect.stringContaining(certsDir)],
      fix: undefined,
    });
  });

  it('names the line that says otherwise', () => {
    const other = judge(`version = 2\n\n${V1}  config_path = "/etc/docker/certs.d"\n`, 1);
    expect(other.reads).toBe('no');
    expect(other.fix).toContain(`${path}, line 4: config_path is "/etc/docker/certs.d"`);
    expect(judge(`version = 2\n${V1}config_path = ""\n`, 1)).toMatchObject({
      reads: 'no',
      fix: expect.stringContaining('line 3'),
    });
    const list = judge(`version = 3\n${V2}config_path = "${certsDir}:/etc/docker/certs.d"\n`, 2);
    expect(list).toMatchObject({
      reads: 'unknown',
      fix: expect.stringContaining('alone: not every release reads a list'),
    });
  });

  it('says what to put where nothing is said, for the generation that runs', () => {
    expect(judge(undefined, 1)).toMatchObject({ reads: 'no', fix: expect.stringContaining('version = 2') });
    expect(judge('version = 2\n', 1).fix).toContain('io.containerd.grpc.v1.cri');
    expect(judge('version = 3\n').fix).toContain('io.containerd.cri.v1.images');
    expect(judge('version = 3\n', 2)).toMatchObject({
      reads: 'unknown',
      directories: [certsDir, '/etc/docker/certs.d'],
    });
    expect(judge(`version = 2\n${V1}x = 1\n`, 1).fix).toContain('after line 2');
    expect(judge(undefined)).toMatchObject({ reads: 'unknown' });
  });

  it('tells of the old style, which excludes the directory', () => {
    const old = judge(
      `version = 2\n${V1}\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["x"]\n`,
      2,
    );
    expect(old.reads).toBe('no');
    expect(old.fix).toContain('line 4: [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]');
  });

  it('does not guess at a file that it cannot read', () => {
    expect(judge('version = [')).toMatchObject({ reads: 'unknown', fix: expect.stringContaining('line 1') });
  });
});

describe('adviseContainerd', () => {
  let hostRoot: string;
  beforeEach(() => {
    hostRoot = mkdtempSync(join(tmpdir(), 'advice-'));
  });
  afterEach(() => rmSync(hostRoot, { recursive: true, force: true }));

  const put = (file: string, text: string): void => {
    mkdirSync(dirname(join(hostRoot, file)), { recursive: true });
    writeFileSync(join(hostRoot, file), text);
  };
  const advise = () =>
    adviseContainerd(
      { registry: 'tidepool.invalid', mirror: 'http://127.0.0.1:6180', certsDir, hostRoot },
      'containerd v2.2.4',
    );

  it('tells a directory without the mirror from one that is not read', () => {
    put('etc/containerd/config.toml', 'version = 3\n');
    expect(advise()).toMatchObject({
      mirror: 'not-configured',
      fix: expect.stringContaining('containerd configure'),
    });
    put(`${certsDir}/_default/hosts.toml`, '[host."http://127.0.0.1:6180"]\n');
    expect(advise()).toMatchObject({
      mirror: 'no',
      fix: expect.stringContaining('io.containerd.cri.v1.images'),
    });
    put('etc/containerd/config.toml', `version = 3\n${V2}config_path = "${certsDir}"\n`);
    expect(advise()).toMatchObject({ mirror: 'no', fix: expect.stringContaining('started before') });
  });

  it('says nothing of a directory that it does not see', () => {
    expect(advise()).toMatchObject({
      mirror: 'no',
      fix: expect.stringContaining('there is no /etc/containerd/config.toml'),
    });
  });
});
