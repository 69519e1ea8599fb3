import * as z from 'zod';
import { checkYaml, type LocatedYaml, type Offence, parseYaml, suggest } from '../../shared/config-file.ts';
import { quote } from '../../shared/ids.ts';
import type { DesiredTuning, Problem } from '../desired/types.ts';
import { isTuningKind, TUNING_KINDS, type TuningEntry, type TuningKind } from './tuning-kinds.ts';

/** Entries of one kind: more would not fit what a person can follow, nor a ConfigMap of 1 MiB. */
const MAX_ENTRIES = 1_000;

/** Settings that people look for here, and why they are not. */
const ABSENT_KEYS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  wan: { upload: 'what an agent sends, to neighbours and to pools below it, is capped by lan.upload' },
};

/** Entries of every kind that is in force. */
export type TuningTable = Readonly<Partial<Record<TuningKind, readonly TuningEntry[]>>>;

export interface ParsedTuning {
  readonly table: TuningTable;
  /** Text of each kind in force, for the next start. */
  readonly texts: Readonly<Record<string, string>>;
  readonly problems: readonly Problem[];
}

/**
 * The ConfigMap's entries. A kind with a bad entry keeps its last good entries as a whole, for half of a kind may be
 * the half that lifts a cap; a kind that is gone is at its defaults.
 * @param lastGood texts of an earlier answer
 */
export function parseTuning(
  tuning: DesiredTuning | undefined,
  lastGood: Readonly<Record<string, string>>,
): ParsedTuning {
  const table: Partial<Record<TuningKind, readonly TuningEntry[]>> = {};
  const texts: Record<string, string> = {};
  const problems: Problem[] = [];
  for (const [key, text] of Object.entries(tuning?.data ?? {})) {
    const source = tuning?.source ?? 'tuning';
    if (!isTuningKind(key)) {
      problems.push({ source, message: unknownKind(key) });
      continue;
    }
    const result = parseKind(key, text);
    if ('entries' in result) {
      table[key] = result.entries;
      texts[key] = text;
      continue;
    }
    const before = lastGood[key];
    const kept = before === undefined ? undefined : parseKind(key, before);
    if (before !== undefined && kept !== undefined && 'entries' in kept) {
      table[key] = kept.entries;
      texts[key] = before;
    }
    const ending = kept === undefined ? 'defaults stay in force' : 'the last good entries stay in force';
    for (const { line, message } of result.offences) {
      problems.push({ source, message: `tuning ${key}, line ${line}: ${message} (${ending})` });
    }
  }
  return { table, texts, problems };
}

export type ParsedKind =
  | { readonly entries: readonly TuningEntry[] }
  | { readonly offences: readonly Offence[] };

/** One kind's entries, with the kind as root key or without. */
export function parseKind(kind: TuningKind, text: string, maxOffences?: number): ParsedKind {
  const [document, second] = parseYaml(text);
  if (document === undefined) return { entries: [] };
  if (second !== undefined) return { offences: [{ line: second.line, message: 'a second document' }] };
  return checkKind(kind, document, maxOffences);
}

/** The same of YAML that is at hand. */
export function checkKind(kind: TuningKind, document: LocatedYaml, maxOffences?: number): ParsedKind {
  const list = z.array(TUNING_KINDS[kind]).max(MAX_ENTRIES);
  // Told apart by hand: a union of both forms would answer "invalid input" to every typo within.
  const rooted = z.strictObject({ [kind]: list.nullish() });
  const isMap = typeof document.value === 'object' && !Array.isArray(document.value);
  const checked: { value: readonly TuningEntry[] } | { offences: readonly Offence[] } = isMap
    ? mapValue(checkYaml(rooted, document, maxOffences), (value) => value[kind] ?? [])
    : checkYaml(list, document, maxOffences);
  if ('offences' in checked) {
    return { offences: checked.offences.map((each) => ({ ...each, message: withHint(kind, each.message) })) };
  }
  const names = new Set<string>();
  const doubled: Offence[] = [];
  for (const [index, { name }] of checked.value.entries()) {
    if (names.has(name)) {
      const line = document.lineOf(isMap ? [kind, index] : [index]);
      doubled.push({ line, message: `a second entry named ${quote(name)}` });
    }
    names.add(name);
  }
  return doubled.length > 0 ? { offences: doubled } : { entries: checked.value };
}

/** What is wrong with a key that is no kind. */
export function unknownKind(key: string): string {
  const near = suggest(key, Object.keys(TUNING_KINDS));
  const hint =
    near === undefined ? `known: ${Object.keys(TUNING_KINDS).join(', ')}` : `did you mean ${quote(near)}?`;
  return `unknown tuning kind ${quote(key)}; ${hint}`;
}

function withHint(kind: TuningKind, message: string): string {
  const key = /unknown key "(\w+)"/.exec(message)?.[1] ?? '';
  const hint = Object.hasOwn(ABSENT_KEYS, kind) ? ABSENT_KEYS[kind]?.[key] : undefined;
  return hint === undefined ? message : message.replace(/;.*$/, `; ${hint}`);
}

function mapValue<T, U, O>(
  result: { readonly value: T } | { readonly offences: O },
  change: (value: T) => U,
): { value: U } | { offences: O } {
  return 'value' in result ? { value: change(result.value) } : result;
}
