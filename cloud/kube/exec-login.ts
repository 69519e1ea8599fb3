import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import { stringAt } from './objects.ts';

const PLUGIN_MS = 30_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** A token is taken anew this long before it ends. */
const MARGIN_MS = 60_000;
/** One that does not say when it ends. */
const UNDATED_MS = 300_000;

export interface ExecCredentials {
  readonly token?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A credential plugin of a kubeconfig, as `aws eks get-token` is one; asked again only when its answer ends. */
export class ExecLogin {
  readonly #clock: Clock;
  readonly #init: ExecLoginInit;
  #last: { readonly credentials: ExecCredentials; readonly until: number } | undefined;

  constructor(components: { readonly clock: Clock }, init: ExecLoginInit) {
    this.#clock = components.clock;
    this.#init = init;
  }

  /** @throws Error in words of the plugin */
  async credentials(): Promise<ExecCredentials> {
    if (this.#last !== undefined && this.#clock.now() < this.#last.until) return this.#last.credentials;
    const { apiVersion, command, args, env, directory, environment } = this.#init;
    // A command with a slash stands beside the kubeconfig; others are on PATH.
    const file = command.includes('/') ? path.resolve(directory, command) : command;
    const info = { apiVersion, kind: 'ExecCredential', spec: { interactive: false } };
    let answer: unknown;
    try {
      const { stdout } = await promisify(execFile)(file, [...(args ?? [])], {
        timeout: PLUGIN_MS,
        maxBuffer: MAX_OUTPUT_BYTES,
        env: {
          ...environment,
          ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])),
          KUBERNETES_EXEC_INFO: JSON.stringify(info),
        },
      });
      answer = JSON.parse(stdout);
    } catch (error) {
      throw new Error(`the credential plugin ${command} gives none: ${describeError(error)}`, {
        cause: error,
      });
    }
    const token = stringAt(answer, 'status', 'token');
    const cert = stringAt(answer, 'status', 'clientCertificateData');
    const key = stringAt(answer, 'status', 'clientKeyData');
    if (token === undefined && cert === undefined) {
      throw new Error(`the credential plugin ${command} answers neither a token nor a certificate`);
    }
    const credentials = {
      ...(token === undefined ? {} : { token }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    };
    const ends = Date.parse(stringAt(answer, 'status', 'expirationTimestamp') ?? '');
    const until = Number.isNaN(ends) ? this.#clock.now() + UNDATED_MS : ends - MARGIN_MS;
    this.#last = { credentials, until };
    return credentials;
  }
}

export interface ExecLoginInit {
  readonly apiVersion: string;
  readonly command: string;
  readonly args?: readonly string[] | null | undefined;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null | undefined;
  /** Of the kubeconfig. */
  readonly directory: string;
  /** The hub's own. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}
