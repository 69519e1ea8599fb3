import { TidepoolError } from './errors.ts';
import { quote } from './ids.ts';

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 1e3,
  KB: 1e3,
  Ki: 1024,
  KiB: 1024,
  M: 1e6,
  MB: 1e6,
  Mi: 1024 ** 2,
  MiB: 1024 ** 2,
  G: 1e9,
  GB: 1e9,
  Gi: 1024 ** 3,
  GiB: 1024 ** 3,
  T: 1e12,
  TB: 1e12,
  Ti: 1024 ** 4,
  TiB: 1024 ** 4,
};
const RATE_UNITS: Readonly<Record<string, number>> = {
  bit: 1 / 8,
  kbit: 1e3 / 8,
  Kbit: 1e3 / 8,
  Mbit: 1e6 / 8,
  Gbit: 1e9 / 8,
};
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 };
const NUMBER_AND_UNIT = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/;

/** `8Gi`, `500MB`, `1024` to bytes. @throws TidepoolError INVALID_ARGUMENT */
export function parseBytes(text: string): number {
  return Math.round(parse(text, BYTE_UNITS, 'a size', '8Gi or 500MB'));
}

/** `20Mbit`, `256kbit` (bits a second, powers of ten, as tc has them) or a size a second (`2MB`) to bytes a second. */
export function parseRate(text: string): number {
  const unit = NUMBER_AND_UNIT.exec(text.trim())?.[2] ?? '';
  const table = Object.hasOwn(RATE_UNITS, unit) ? RATE_UNITS : BYTE_UNITS;
  const rate = parse(text, table, 'a rate', '20Mbit or 256kbit');
  if (rate < 1) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a rate: ${quote(text)}; it must be over 0 (leave the field out for no cap)`,
    );
  }
  return rate;
}

/** `500ms`, `30s`, `5m`, `1h`, `2d` to milliseconds. */
export function parseDuration(text: string): number {
  if (text.trim() === '0') return 0;
  return parse(text, DURATION_UNITS, 'a duration', '30s or 5m');
}

/** Bytes for people: `201.3 MB`. */
export function formatBytes(bytes: number): string {
  const steps: [number, string][] = [
    [1e12, 'TB'],
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
  ];
  // A step begins where the one below would print as 1000.0.
  for (const [step, unit] of steps)
    if (bytes >= step * 0.99995) return `${(bytes / step).toFixed(1)} ${unit}`;
  return `${bytes} B`;
}

function parse(text: string, units: Readonly<Record<string, number>>, what: string, example: string): number {
  const match = NUMBER_AND_UNIT.exec(text.trim());
  const unit = match?.[2] ?? '';
  // Own keys only: `constructor` is letters too, and a number times a function is NaN, which passes every comparison.
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
  if (match === null || factor === undefined) {
    throw new TidepoolError('INVALID_ARGUMENT', `not ${what}: ${quote(text)}; write it like ${example}`);
  }
  const value = Number(match[1]) * factor;
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new TidepoolError('INVALID_ARGUMENT', `not ${what}: ${quote(text)}; it is too large`);
  }
  return value;
}
