import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const CHART = join(ROOT, 'charts/tidepool');
export const GOLDEN = join(ROOT, 'test/chart/golden');
export const PRESETS: readonly string[] = readdirSync(join(CHART, 'presets'))
  .map((file) => file.replace(/\.yaml$/, ''))
  .sort();

/** What has no default, as somebody would give it. */
export const REQUIRED = {
  imageRegistry: 'registry.example/tidepool',
  hub: { urls: ['mqtts://203.0.113.7:30183'] },
} as const;

/** Over those, where connections are plain. */
export const PLAIN = { insecure: true, hub: { urls: ['mqtt://203.0.113.7:30183'] } } as const;

export interface Golden {
  readonly file: string;
  readonly preset: string;
  readonly values?: unknown;
}

/** What is rendered, and compared as a whole: each preset as it is by default, and one with plain connections. */
export const GOLDENS: readonly Golden[] = [
  ...PRESETS.map((preset) => ({ file: `${preset}.yaml`, preset })),
  { file: 'plain-insecure.yaml', preset: 'plain', values: PLAIN },
];

/** Kubernetes that charts are rendered for: a helm built by Go believes in 1.20. */
const KUBE_VERSION = '1.34.0';
const MAX_OUTPUT_BYTES = 32 * 1024 * 1024;

/** What all objects have, as far as it is looked at here. */
const manifest = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({
    name: z.string(),
    namespace: z.string().optional(),
    labels: z.record(z.string(), z.string()).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
  }),
});
export type Manifest = z.infer<typeof manifest>;

/** The helm that test/chart/helm.sh has put into the cache, else the one on PATH; undefined without either. */
export function findHelm(): string | undefined {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'tidepool');
  const kept = existsSync(cache) ? readdirSync(cache).filter((name) => name.startsWith('helm-')) : [];
  return [...kept.map((name) => join(cache, name)), ...(process.env.PATH ?? '').split(delimiter)]
    .map((directory) => join(directory, 'helm'))
    .find((path) => existsSync(path));
}

export interface Rendering {
  readonly ok: boolean;
  readonly text: string;
  /** What helm says, of a failure. */
  readonly error: string;
}

/** `helm template`, with values over the required ones unless `bare`. */
export function render(
  helm: string,
  options: {
    readonly preset?: string;
    readonly values?: unknown;
    readonly bare?: boolean;
    readonly upgrade?: boolean;
    readonly namespace?: string;
    readonly arguments?: readonly string[];
  } = {},
): Rendering {
  const args = ['template', 'tidepool', CHART, '--kube-version', KUBE_VERSION];
  args.push('--namespace', options.namespace ?? 'tidepool-system');
  if (options.preset !== undefined) args.push('-f', join(CHART, 'presets', `${options.preset}.yaml`));
  if (options.upgrade === true) args.push('--is-upgrade');
  args.push('-f', '-', ...(options.arguments ?? []));
  const values = merge(options.bare === true ? {} : REQUIRED, options.values ?? {});
  const run = spawnSync(helm, args, {
    input: JSON.stringify(values),
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
  });
  return { ok: run.status === 0, text: run.stdout, error: run.stderr };
}

export function lint(helm: string, preset: string): string {
  const args = ['lint', CHART, '--strict', '--kube-version', KUBE_VERSION];
  return execFileSync(helm, [...args, '-f', join(CHART, 'presets', `${preset}.yaml`), '-f', '-'], {
    input: JSON.stringify(REQUIRED),
    encoding: 'utf8',
  });
}

/** Every document, checked to be an object of Kubernetes. @throws where one is not */
export function documentsOf(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document) => {
      const [error] = document.errors;
      if (error !== undefined) throw error;
      return document.toJS() as unknown;
    })
    .filter((value) => value !== null)
    .map((value) => manifest.parse(value));
}

function merge(a: unknown, b: unknown): unknown {
  if (!isObject(a) || !isObject(b)) return b;
  return Object.fromEntries(
    [...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [
      key,
      key in a && key in b ? merge(a[key], b[key]) : (b[key] ?? a[key]),
    ]),
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
