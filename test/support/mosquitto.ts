/** A real mosquitto (Debian package) with mutual TLS, where there is one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.ts';

const MOSQUITTO = '/usr/sbin/mosquitto';

/** Why there is none to be had; undefined where there is. */
export const NO_MOSQUITTO = existsSync(MOSQUITTO)
  ? undefined
  : `there is no ${MOSQUITTO} (Debian: apt-get install mosquitto)`;

export interface MosquittoInit {
  /** PEM: certificates of these are let in. */
  readonly roots: string;
  /** What it shows of itself, PEM. */
  readonly cert: string;
  readonly key: string;
  /** Of its `acl_file`, or what the plugin reads. */
  readonly rules: string;
  /** The dynamic security plugin. */
  readonly plugin?: string | undefined;
}

/** On loopback, at a port that was free. */
export async function startMosquitto(
  init: MosquittoInit,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'tidepool-mosquitto-'));
  const port = await freePort('127.0.0.1');
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(path.join(directory, name), text, { mode: 0o600 });
    return path.join(directory, name);
  };
  const rules = await file('rules', init.rules);
  const config = await file(
    'mosquitto.conf',
    [
      'per_listener_settings false',
      'log_dest stderr',
      ...(process.getuid?.() === 0 ? ['user root'] : []),
      ...(init.plugin === undefined
        ? [`acl_file ${rules}`]
        : [`plugin ${init.plugin}`, `plugin_opt_config_file ${rules}`]),
      'allow_anonymous false',
      `listener ${port} 127.0.0.1`,
      `cafile ${await file('roots.pem', init.roots)}`,
      `certfile ${await file('cert.pem', init.cert)}`,
      `keyfile ${await file('key.pem', init.key)}`,
      'tls_version tlsv1.3',
      'require_certificate true',
      'use_identity_as_username true',
      'use_username_as_clientid true',
      '',
    ].join('\n'),
  );
  const child = spawn(MOSQUITTO, ['-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  await running(child);
  return {
    port,
    async close() {
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill();
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function running(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4_000);
      if (/running/.test(said)) resolve();
    });
    child.once('exit', (code) => reject(new Error(`mosquitto ended with ${code}: ${said}`)));
  });
}
