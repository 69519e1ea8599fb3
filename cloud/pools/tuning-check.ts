import { type LocatedYaml, type Offence, parseYaml } from '../../shared/config-file.ts';
import { TUNING_CONFIG_MAP } from '../desired/documents.ts';
import { isTuningKind } from './tuning-kinds.ts';
import { checkKind, type ParsedKind, parseKind, unknownKind } from './tuning-parse.ts';

/** Of one kind in one file; nobody mends more at a time. */
const MAX_OFFENCES = 1_000;

export interface CheckedTuning {
  /** By line. */
  readonly offences: readonly Offence[];
  /** Text of each kind that was found, as a ConfigMap has it. */
  readonly data: Readonly<Record<string, string>>;
  readonly entries: number;
}

/**
 * Checks the tuning in a YAML file without a hub: the ConfigMap, among whatever other documents, or kinds by themselves
 * (`wan: [...]`). Lines are those of the file, also within the text of a ConfigMap's key.
 */
export function checkTuning(text: string): CheckedTuning {
  const found = new Findings();
  for (const document of parseYaml(text)) {
    const { value } = document;
    if (document.errors.length > 0) found.add(document.errors);
    else if (isMap(value) && 'kind' in value) checkConfigMap(document, value, text, found);
    else if (isMap(value)) {
      for (const [kind, inner] of Object.entries(value)) {
        found.take(kind, document.lineOf([kind]), {
          text: JSON.stringify(inner),
          check: () => shifted(document, kind, inner),
        });
      }
    } else {
      const message = 'a list of entries says nothing of their kind; put it under one, as in "wan:"';
      found.add([{ line: document.line, message }]);
    }
  }
  return found.result();
}

function checkConfigMap(
  document: LocatedYaml,
  value: Readonly<Record<string, unknown>>,
  text: string,
  found: Findings,
): void {
  if (value.kind !== 'ConfigMap') return;
  const { data, metadata } = value;
  const named = isMap(metadata) && metadata.name === TUNING_CONFIG_MAP;
  // A chart may have named it otherwise.
  if (!named && !(isMap(data) && Object.keys(data).some(isTuningKind))) return;
  found.sawMap = true;
  if (data === undefined || data === null) return;
  if (!isMap(data)) {
    found.add([{ line: document.lineOf(['data']), message: 'data: expected a map of kinds' }]);
    return;
  }
  for (const [kind, inner] of Object.entries(data)) {
    const line = document.lineOf(['data', kind]);
    if (typeof inner !== 'string') {
      const message = `data.${kind}: a ConfigMap holds text; write "${kind}: |-" and the list beneath`;
      found.add([{ line, message }]);
      continue;
    }
    // The text of a block begins on the line after its key.
    const header = text.split('\n')[line - 1] ?? '';
    const before = /:\s*[|>][-+0-9]*\s*(#.*)?$/.test(header) ? line : line - 1;
    found.take(kind, line, {
      text: inner,
      check: () => {
        const result = isTuningKind(kind) ? parseKind(kind, inner, MAX_OFFENCES) : { entries: [] };
        if ('entries' in result) return result;
        return { offences: result.offences.map((each) => ({ ...each, line: each.line + before })) };
      },
    });
  }
}

/** One kind of a document of kinds, checked as a document of its own that knows its lines. */
function shifted(document: LocatedYaml, kind: string, value: unknown): ParsedKind {
  if (!isTuningKind(kind)) return { entries: [] };
  const lineOf = (path: readonly PropertyKey[]): number => document.lineOf([kind, ...path]);
  return checkKind(kind, { line: lineOf([]), errors: [], value: value ?? [], lineOf }, MAX_OFFENCES);
}

class Findings {
  sawMap = false;
  readonly #offences: Offence[] = [];
  readonly #data: Record<string, string> = {};
  #entries = 0;

  add(offences: readonly Offence[]): void {
    this.#offences.push(...offences);
  }

  take(kind: string, line: number, of: { readonly text: string; readonly check: () => ParsedKind }): void {
    if (!isTuningKind(kind)) {
      this.add([{ line, message: unknownKind(kind) }]);
      return;
    }
    if (Object.hasOwn(this.#data, kind)) {
      this.add([{ line, message: `a second ${kind}; the hub reads one ConfigMap` }]);
      return;
    }
    this.#data[kind] = of.text;
    const result = of.check();
    if ('entries' in result) this.#entries += result.entries.length;
    else this.add(result.offences);
  }

  result(): CheckedTuning {
    if (this.#offences.length === 0 && !this.sawMap && Object.keys(this.#data).length === 0) {
      const message = `no tuning in it: no ConfigMap ${TUNING_CONFIG_MAP}, and no kind such as "wan:"`;
      this.#offences.push({ line: 1, message });
    }
    const offences = [...this.#offences].sort((a, b) => a.line - b.line);
    return { offences, data: this.#data, entries: this.#entries };
  }
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
