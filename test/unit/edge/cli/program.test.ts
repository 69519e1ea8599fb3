import { describe, expect, it } from 'vitest';
import { cli } from '../../../support/cli-capture.ts';

const RUN_FLAGS = [
  '--config <file>',
  '--node <name>',
  '--pool <name>',
  '--address <ip>',
  '--data <dir>',
  '--mirror <ip:port>',
  '--peer-port <port>',
  '--ops <ip:port>',
  '--hub <url>',
  '--peers <ip:port,…>',
  '--registry <host=url>',
  '--default-registry <host>',
  '--source-address <ip>',
  '--insecure',
  '--log-level <level>',
];

describe('help', () => {
  it.each([
    [
      ['--help'],
      [
        'run',
        'status',
        'pull',
        'get-manifest',
        'get-blob',
        'containerd',
        'version',
        'Exit codes: 0 done, 1 failed, 2',
      ],
    ],
    [
      ['run', '--help'],
      [
        ...RUN_FLAGS,
        '127.0.0.1:618,',
        '127.0.0.1:6180',
        '6181',
        '127.0.0.1:6182',
        '/var/lib/tidepool',
        'Example',
      ],
    ],
    [
      ['status', '--help'],
      ['--json', '--ops <ip:port>', '--config <file>', 'Example'],
    ],
    [
      ['pull', '--help'],
      ['<image>', '--platform <os/arch>', '--user <user:password>', '--json', '--ops', 'Example'],
    ],
    [
      ['get-manifest', '--help'],
      ['<image>', '--json', '--raw', '--ops', 'Example'],
    ],
    [
      ['get-blob', '--help'],
      ['<digest>', '-o, --output <file>', '--user', '--ops', 'Example'],
    ],
    [
      ['containerd', '--help'],
      ['configure', 'restore'],
    ],
    [
      ['containerd', 'configure', '--help'],
      [
        '--registry <host[=url]>',
        '--default',
        '--certs-dir <dir>',
        '/etc/containerd/certs.d',
        '--mirror <url>',
        '--no-origin-fallback',
        'Example',
      ],
    ],
    [
      ['containerd', 'restore', '--help'],
      ['--certs-dir <dir>', '/etc/containerd/certs.d', 'Example'],
    ],
  ])('%j tells every flag, its default and an example', async (args, words) => {
    const { code, stdout, stderr } = await cli(args);
    expect(code).toBe(0);
    expect(stderr).toBe('');
    for (const word of words) expect(stdout).toContain(word);
  });

  it('is what a person gets who says nothing, as wrong usage', async () => {
    const { code, stdout, stderr } = await cli([]);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain('Usage: tidepool-agent');
  });
});

describe('wrong usage ends with 2 and says what is wrong', () => {
  it.each([
    [['runn'], "unknown command 'runn'\n(Did you mean run?)"],
    [['run', '--insecur'], "unknown option '--insecur'\n(Did you mean --insecure?)"],
    [['run', 'now'], 'too many arguments'],
    [['pull'], "missing required argument 'image'"],
    [['pull', 'library/UPPER'], 'not an image reference'],
    [['pull', 'busybox', '--user', 'nobody'], '--user: write it like USER:PASSWORD'],
    [['get-manifest', 'busybox@sha256:12'], 'not an image reference'],
    [['get-manifest', 'busybox', '--user', ':secret'], '--user: write it like USER:PASSWORD'],
    [['get-blob', 'busybox', 'sha256:12', '-o', '/nowhere/x'], 'sha256:12'],
    [['get-blob', 'busybox', 'sha256:12'], "required option '-o, --output <file>'"],
    [['get-manifest', 'busybox', '--raw', '--json'], 'cannot be used with'],
    [['status', '--ops', 'here'], '--ops: not an address and port: "here"'],
    [['status', '--config', '/nowhere.yaml'], 'cannot read the settings file "/nowhere.yaml"'],
    [['containerd', 'configure'], '--registry HOST for each, or --default'],
    [
      ['containerd', 'configure', '--default', '--registry', 'docker.io'],
      '--registry HOST for each, or --default',
    ],
    [['containerd', 'configure', '--registry', 'a b'], "--registry: not a registry's host"],
    [['containerd', 'configure', '--registry', 'reg.example=10.0.0.1'], 'not a base URL'],
    [['containerd', 'configure', '--default', '--mirror', '127.0.0.1:6180'], '--mirror: not a base URL'],
    [['containerd', 'undo'], "unknown command 'undo'"],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await cli(args);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });
});

describe('run refuses before it touches anything', () => {
  const address = ['--address', '127.0.0.1', '--data', '/nowhere/at/all'];

  it('a node that nobody has let in and nobody could, with the words to mend it', async () => {
    const { code, stderr } = await cli(['run', ...address]);
    expect(code).toBe(2);
    expect(stderr).toContain('name it with --hub and --join');
    expect(stderr).toContain('--insecure does without');
  });

  it('settings with a typo, with its line', async () => {
    const files = { 'agent.yaml': 'pool: a\nregistrys:\n  docker.io: https://m.example\n' };
    const { code, stderr } = await cli(['run', '--config=agent.yaml', ...address], { files });
    expect(code).toBe(2);
    expect(stderr).toBe('error: agent.yaml:2: unknown key "registrys"; did you mean "registries"?\n');
  });

  it.each([
    [['--peers', '10.0.0.8'], '--peers: not an address and port'],
    [['--peers=10.0.0.8'], '--peers: not an address and port'],
    [['--registry', 'reg.example=http://u:p@10.0.0.1'], 'an account does not stand here'],
    [['--registry=reg.example=http://10.0.0.1/?a=b'], 'take out what follows ?'],
    [['--hub', 'hub.example:6183'], '--hub: "hub.example:6183": not a broker'],
    [['--log-level', 'loud'], '--log-level: not a log level'],
  ])('%j', async (flags, message) => {
    const { code, stderr } = await cli(['run', '--insecure', ...address, ...flags]);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });
});

describe('version', () => {
  it('is one line, or JSON', async () => {
    expect(await cli(['version'])).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^tidepool-agent \d+\.\d+\.\d+\n$/),
      stderr: '',
    });
    const { stdout } = await cli(['version', '--json']);
    expect(JSON.parse(stdout)).toEqual({
      version: expect.stringMatching(/^\d/),
      node: process.version,
      platform: `${process.platform}/${process.arch}`,
    });
  });
});
